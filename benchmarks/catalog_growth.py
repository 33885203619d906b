"""Benchmark 2: what a catalog of N = 1, 10, 100, 1000 categories costs over one of a single category, on the bundled base.

Banks of all sizes stand beside one denoiser. Activation is that of benchmark 1; registration loads a category where the
one that was not used for the longest time gives way, and the caches hold other things, as after a step of the denoiser
(without that the only category of N = 1 is written into the cache, again and again). Weights repeat after
``NUM_DISTINCT`` categories, each of which has rows of its own all the same. Beside it ``set_adapters`` and
``load_lora_weights`` of diffusers, with as many adapters loaded; not at 1000, which take it too long to load.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count, cycle
from statistics import median

import torch

from benchmarks.adapter_switch import set_adapters
from benchmarks.bases import Bench, bundled
from benchmarks.harness import Row, Setting, interleaved
from benchmarks.serving import (
    RANK,
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

SIZES = (1, 10, 100, 1000)
NUM_DISTINCT = 20
ELSEWHERE = 2**25  # numbers, 128 MiB, which no cache holds
LARGEST_OF_PEER, LARGEST_OF_QUICK_PEER = 100, 10


def measure(setting: Setting) -> list[Row]:
    """Seconds and bytes at each N, and the largest over the smallest."""
    torch.set_num_threads(setting.threads)
    with bundled() as bench, loaded_base(bench) as base:
        catalog = Catalog(base, bench.base)
        with torch.inference_mode():
            distinct = [catalog.category(number) for number in range(NUM_DISTINCT)]
            every = [
                replace(distinct[number % NUM_DISTINCT], name=f"category_{number}") for number in range(max(SIZES))
            ]
            return [*_ours(setting, bench, base, every), *_peers(setting, bench, base, every), *_bytes(base, every)]


def _ours(setting: Setting, bench: Bench, base: Family, every: list[Category]) -> list[Row]:
    banks = {size: _filled(base, every[:size], size) for size in SIZES}
    full = {size: _filled(base, every[:size], size) for size in SIZES}
    rows = [_equality(bench, base, bank, every[size - 1], size) for size, bank in banks.items()]
    activate = {f"activation {size}": _activations(bank, every[:size], 200) for size, bank in banks.items()}
    register = {f"registration {size}": _registrations(bank, every[:NUM_DISTINCT], 40) for size, bank in full.items()}
    found = interleaved({**activate, **register}, setting.rounds)
    bound = 2 * every[0].raw_bytes / memory_rate()
    for name in ("activation", "registration"):
        times = {size: found[f"{name} {size}"] for size in SIZES}
        rows += [
            Row(label=f"{name}, N = {size}", value=median(each), unit="s", least=min(each))
            for size, each in times.items()
        ]
        growth = median(times[max(SIZES)]) / median(times[1])
        rows.append(Row(label=f"{name} at N = {max(SIZES)} / at N = 1", value=growth, unit="", at_most=1.1))
    label = "computed bound of a registration: its bytes read and written at this run's rate"
    return [*rows, Row(label=label, value=bound, unit="s")]


def _filled(base: Family, categories: list[Category], size: int) -> AdapterBank:
    bank = AdapterBank(base.denoiser, num_ranks=size * RANK)
    for each in categories:
        with held(bank, each):
            pass
    return bank


def _activations(bank: AdapterBank, categories: list[Category], repeat: int) -> Callable[[], float]:
    # With one category there is nothing to switch to but the bare base, which is planned anew as well.
    turn = cycle(categories)

    def switch() -> None:
        with bank.rows([0, 0]):
            pass
        with held(bank, next(turn)) as slot, bank.rows([slot] * 2):
            pass

    return lambda: seconds(switch, repeat)


def _registrations(bank: AdapterBank, categories: list[Category], repeat: int) -> Callable[[], float]:
    numbers, turn = count(), cycle(categories)

    def register() -> None:
        with held(bank, replace(next(turn), name=f"new_{next(numbers)}")):
            pass

    elsewhere = torch.zeros(ELSEWHERE)

    def average() -> float:
        total = 0.0
        for _ in range(repeat):
            elsewhere.add_(1)
            total += seconds(register, 1)
        return total / repeat

    return average


def _equality(bench: Bench, base: Family, bank: AdapterBank, category: Category, size: int) -> Row:
    step = Inputs.random(base, 2)
    pipeline = plain_pipeline(bench.folder)
    pipeline.load_lora_weights(category.copy())
    with held(bank, category) as slot, bank.rows([slot] * 2):
        return equal(f"load_lora_weights, N = {size}", step.through(base.denoiser), step.through(pipeline.unet))


def _peers(setting: Setting, bench: Bench, base: Family, every: list[Category]) -> list[Row]:
    largest = LARGEST_OF_QUICK_PEER if setting.quick else LARGEST_OF_PEER
    rows: list[Row] = []
    for size in (size for size in SIZES if size <= largest):
        pipeline = plain_pipeline(bench.folder)
        begun = time.thread_time()
        switch = set_adapters(pipeline, every[:size])
        loading = (time.thread_time() - begun) / size
        turn = cycle(every[:size])
        found = [seconds(lambda switch=switch, turn=turn: switch(next(turn)), 5) for _ in range(setting.rounds)]
        rows += [
            Row(label=f"peer: set_adapters, N = {size}", value=median(found), unit="s", least=min(found)),
            Row(label=f"peer: load_lora_weights, mean of the first {size}", value=loading, unit="s"),
        ]
    return rows


def _bytes(base: Family, every: list[Category]) -> list[Row]:
    raw = every[0].raw_bytes
    rows = [Row(label="raw weights of one category", value=raw, unit="B")]
    for size in SIZES:
        slabs, larger = (_filled(base, every[:1], each).num_bytes for each in (size, size + 1))
        rows += [
            Row(
                label=f"bytes of one more category / raw weights, N = {size}",
                value=(larger - slabs) / raw,
                unit="",
                at_most=1.05,
            ),
            Row(
                label=f"slabs, with the row of zeros / raw weights of all, N = {size}",
                value=slabs / (size * raw),
                unit="",
            ),
            Row(
                label=f"slabs and parsed copies in main memory / raw weights of all, N = {size}",
                value=slabs / (size * raw) + 1,
                unit="",
            ),
        ]
    return rows
