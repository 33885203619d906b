"""Benchmark 1: what it costs to make another resident category active, on the bundled base.

Ours is a slot taken, row numbers looked up and a hook on each adapted layer, put on and taken off again. The peers are
diffusers' ways: load and unload per request, hot-swapping in place, ``set_adapters`` among loaded ones, with their
weights in memory already. Every contestant goes to and fro between the same categories.
"""

from collections.abc import Callable
from itertools import cycle
from statistics import median
from typing import Any

import torch

from benchmarks.bases import Bench, bundled
from benchmarks.harness import Row, Setting, interleaved, versus
from benchmarks.serving import (
    RANK,
    TOLERANCE,
    Catalog,
    Category,
    Inputs,
    equal,
    held,
    loaded_base,
    memory_rate,
    plain_pipeline,
    seconds,
)
from packshot.diffusion.adapters import AdapterBank
from packshot.diffusion.protocols import Family

NUM_RESIDENT = 16
SLOT = "hotswapped"


def measure(setting: Setting) -> list[Row]:
    """Seconds of a switch; our share of a denoising step of one guided picture; what bounds a hot-swap."""
    torch.set_num_threads(setting.threads)
    with bundled() as bench, loaded_base(bench) as base:
        catalog = Catalog(base, bench.base)
        with torch.inference_mode():
            return _measured(setting, bench, base, [catalog.category(number) for number in range(NUM_RESIDENT)])


def _measured(setting: Setting, bench: Bench, base: Family, categories: list[Category]) -> list[Row]:
    bank = AdapterBank(base.denoiser, num_ranks=NUM_RESIDENT * RANK)
    for each in categories:
        with held(bank, each):
            pass
    step = Inputs.random(base, 2)
    peers = {
        "load and unload": load_and_unload(plain_pipeline(bench.folder)),
        "hot-swap": hot_swap(plain_pipeline(bench.folder), categories[0]),
        f"set_adapters among {NUM_RESIDENT}": set_adapters(plain_pipeline(bench.folder), categories),
    }

    def ours(category: Category, use: Callable[[Any], None] = lambda _: None) -> None:
        with held(bank, category) as slot, bank.rows([slot] * 2):
            use(base.denoiser)

    rows = [row for category in categories[:2] for row in _equalities(category, step, base.denoiser, ours, peers)]
    contestants = {"ours": _switches(ours, categories, 20)} | {
        name: _switches(switch, categories, 1 if setting.quick else 4) for name, switch in peers.items()
    }
    found = interleaved({**contestants, "step": lambda: seconds(lambda: step.through(base.denoiser))}, setting.rounds)
    aims = {"load and unload": 100.0, "hot-swap": 20.0}
    rows += [
        versus(f"switch, against {name}", found["ours"], found[name], "s", at_least=aims.get(name)) for name in peers
    ]
    share = median(found["ours"]) / median(found["step"])
    rows.append(Row(label="switch / denoising step of one guided picture", value=share, unit="", at_most=0.02))
    rows.append(Row(label="denoising step of one guided picture", value=median(found["step"]), unit="s"))
    bound = 2 * categories[0].raw_bytes / memory_rate()
    rows.append(
        Row(label="computed bound of a hot-swap: its bytes read and written at this run's rate", value=bound, unit="s")
    )
    return rows


def _switches(switch: Callable[[Category], object], categories: list[Category], repeat: int) -> Callable[[], float]:
    turn = cycle(categories)
    return lambda: seconds(lambda: switch(next(turn)), repeat)


def _equalities(category: Category, step: Inputs, bare: Any, ours: Any, peers: dict[str, Any]) -> list[Row]:
    found: dict[str, torch.Tensor] = {}
    ours(category, lambda denoiser: found.update(ours=step.through(denoiser)))
    assert (found["ours"] - step.through(bare)).abs().max() > 1000 * TOLERANCE, (
        "an adapter without effect shows nothing"
    )
    for name, switch in peers.items():
        switch(category, lambda denoiser, name=name: found.update({name: step.through(denoiser)}))
    return [equal(f"{name}, {category.name}", found["ours"], found[name]) for name in peers]


def load_and_unload(pipeline: Any) -> Any:
    """A switch by ``load_lora_weights``, and back by ``unload_lora_weights``."""

    def switch(category: Category, use: Callable[[Any], None] = lambda _: None) -> None:
        pipeline.load_lora_weights(category.published)
        use(pipeline.unet)
        pipeline.unload_lora_weights()

    return switch


def hot_swap(pipeline: Any, first: Category) -> Any:
    """A switch by writing into the adapter that is loaded."""
    pipeline.load_lora_weights(first.copy(), adapter_name=SLOT)

    def switch(category: Category, use: Callable[[Any], None] = lambda _: None) -> None:
        pipeline.load_lora_weights(category.published, adapter_name=SLOT, hotswap=True)
        use(pipeline.unet)

    return switch


def set_adapters(pipeline: Any, categories: list[Category]) -> Any:
    """A switch among adapters that are all loaded."""
    load_all(pipeline, categories)

    def switch(category: Category, use: Callable[[Any], None] = lambda _: None) -> None:
        pipeline.set_adapters(category.name)
        use(pipeline.unet)

    return switch


def load_all(pipeline: Any, categories: list[Category]) -> None:
    """Every category's adapter, under its name."""
    for each in categories:
        pipeline.load_lora_weights(each.copy(), adapter_name=each.name)
