"""Benchmark 3: one forward pass of a batch of K rows with K different adapters, on the bundled base.

Beside it stand the base without adapters, peft's mixed batches in the same denoiser (``adapter_names``, told by forward
hooks), and one row after the other with ``set_adapters`` before each. As in the engine the batch is planned once for as
long as it stays the same; a pass of a batch that is new is a row of its own. The bound counts operations: those of the base over
those of the base and the adapters, which assumes that both run at one rate and that nothing else costs anything.
"""

from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.adapter_switch import load_all
from benchmarks.bases import Bench, bundled
from benchmarks.flops import count
from benchmarks.harness import Row, Setting, interleaved, versus
from benchmarks.serving import (
    RANK,
    Catalog,
    Category,
    Inputs,
    equal,
    loaded_base,
    mixed_by_peft,
    plain_pipeline,
    seconds,
)
from packshot.diffusion.adapters import AdapterBank
from packshot.diffusion.protocols import Family


def measure(setting: Setting) -> list[Row]:
    """For each K the time beside the three others, and the bounds."""
    torch.set_num_threads(setting.threads)
    with bundled() as bench, loaded_base(bench) as base:
        catalog = Catalog(base, bench.base)
        sizes = (1, 4, 8) if setting.quick else (1, 2, 4, 8, 16)
        with torch.inference_mode():
            return _measured(setting, bench, base, [catalog.category(number) for number in range(max(sizes))], sizes)


def _measured(
    setting: Setting, bench: Bench, base: Family, categories: list[Category], sizes: tuple[int, ...]
) -> list[Row]:
    bank = AdapterBank(base.denoiser, num_ranks=len(categories) * RANK)
    slots = [slot for each in categories if (slot := bank.acquire(each.name, each.adapters)) is not None]
    pipeline = plain_pipeline(bench.folder)
    load_all(pipeline, categories)
    rows: list[Row] = []
    alone: dict[int, float] = {}
    for size in sizes:
        inputs = Inputs.random(base, size)
        passes = {
            "ours": _ours(bank, base, inputs, slots[:size], planned=True),
            "new": _ours(bank, base, inputs, slots[:size], planned=False),
            "base": lambda inputs=inputs: inputs.through(base.denoiser),
            "peft": _peft(pipeline, inputs, categories[:size]),
            "sequential": _sequential(pipeline, inputs, categories[:size]),
        }
        mixed = passes["ours"]()
        rows += [equal(f"{name}, K = {size}", mixed, passes[name]()) for name in ("peft", "sequential")]
        repeat = max(1, (4 if setting.quick else 16) // size)
        found = interleaved({name: partial(seconds, one, repeat) for name, one in passes.items()}, setting.rounds)
        alone[size] = median(found["base"])
        rows += [
            versus(f"K = {size}, against the base without adapters", found["ours"], found["base"], "s", at_least=0.95),
            versus(f"K = {size}, a new batch, against the base", found["new"], found["base"], "s"),
            _bound_of_adapters(size, passes),
            versus(f"K = {size}, against peft's adapter_names", found["ours"], found["peft"], "s", at_least=1.3),
            versus(
                f"K = {size}, against set_adapters one by one", found["ours"], found["sequential"], "s", at_least=2.5
            ),
            Row(
                label=f"K = {size}, computed bound of the ratio to one by one: K base passes of one row / one of K",
                value=size * alone[1] / alone[size],
                unit="",
            ),
        ]
    return rows


def _bound_of_adapters(size: int, passes: dict[str, Callable[[], Tensor]]) -> Row:
    bare, adapted = count(passes["base"]), count(passes["ours"])
    return Row(label=f"K = {size}, computed bound of the ratio to the base: operations", value=bare / adapted, unit="")


def _ours(bank: AdapterBank, base: Family, inputs: Inputs, slots: list[int], *, planned: bool) -> Callable[[], Tensor]:
    def run() -> Tensor:
        if not planned:
            with bank.rows([0]):
                pass
        with bank.rows(slots):
            return inputs.through(base.denoiser)

    return run


def _peft(pipeline: Any, inputs: Inputs, categories: list[Category]) -> Callable[[], Tensor]:
    names = [each.name for each in categories]

    def run() -> Tensor:
        with mixed_by_peft(pipeline.unet, names):
            return inputs.through(pipeline.unet)

    return run


def _sequential(pipeline: Any, inputs: Inputs, categories: list[Category]) -> Callable[[], Tensor]:
    def run() -> Tensor:
        found: list[Tensor] = []
        for number, each in enumerate(categories):
            pipeline.set_adapters(each.name)
            found.append(inputs.row(number).through(pipeline.unet))
        return torch.cat(found)

    return run
