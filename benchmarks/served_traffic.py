"""Benchmark 4: the largest rate of requests at which 90 % end within 5 times the solo latency, on the bundled base.

Requests for categories by a power law, with gamma arrivals, of 4 to 20 guided steps. Time is a clock of its own: the
processor time of this process, all threads, while somebody works, and a jump to the next arrival while nobody does. So
what else runs on the machine does not count, and what the engine does in other threads counts as if it were done in turn.

The peers, in plain diffusers: *load* loads and unloads an adapter for each request; *set* keeps the adapters that were used
last, as many as the engine's bank has room for, and switches with ``set_adapters``; *peft* keeps as many and makes the
waiting requests of equal numbers of steps in one batch of mixed adapters. Requests of the first two are made one after
the other and take as long at any rate, so they are made once, and their waiting times follow from the arrivals. The solo
latency is that of a request of the most steps in the engine, the same for all contestants.

With a coefficient of variation of 8 about 64 requests come at once, more than 5 times the solo latency leaves anybody
time for. No rate is low enough then, so those rows compare the latency that 90 % keep within, all at half the bound.

A run of few requests flatters whoever is slow: its queue has no time to grow. A quick run only shows that the program runs.

The bound is that of a batch that is always full: pictures a second of the denoiser alone, at the mean number of steps.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.bases import Bench, bundled
from benchmarks.harness import Row, Setting
from benchmarks.serving import Catalog, Inputs, loaded_base
from benchmarks.traffic import LIMITS, STEPS, Clock, Ours, Plain, Request, requests
from packshot.diffusion.protocols import Family

SIZES, BURSTS = (10, 100, 1000), 8.0
IN_TIME, TIMES_SOLO, STRIDE = 0.9, 5.0, 1.5
AIMS = {"load": 3.0, "set": 2.0, "peft": 1.2}
PIXEL = 1 / 255 + 1e-6  # pictures are rounded to grey levels


def serial(make: Callable[[Sequence[Request]], list[Any]], wanted: Sequence[Request]) -> tuple[list[float], list[Any]]:
    """How long each takes, made one after the other, and its picture."""
    taken: list[float] = []
    pictures: list[Any] = []
    for each in wanted:
        clock = Clock()
        pictures += make([each])
        taken.append(clock.now)
    return taken, pictures


def waited(taken: Sequence[float], wanted: Sequence[Request], rate: float) -> list[float]:
    """Latencies of one server that takes them in order."""
    free, latencies = 0.0, []
    for seconds, each in zip(taken, wanted, strict=True):
        free = max(free, each.arrival / rate) + seconds
        latencies.append(free - each.arrival / rate)
    return latencies


def batched(make: Callable[[Sequence[Request]], list[Any]], wanted: Sequence[Request], rate: float) -> list[float]:
    """Latencies where the oldest waiting request takes those of as many steps along, up to the engine's batch."""
    clock, waiting, latencies = Clock(), list(wanted), {}
    while waiting:
        clock.wait_until(waiting[0].arrival / rate)
        here = [each for each in waiting if each.arrival / rate <= clock.now and each.steps == waiting[0].steps]
        batch = here[: LIMITS.max_batch]
        make(batch)
        latencies |= {each.seed: clock.now - each.arrival / rate for each in batch}
        waiting = [each for each in waiting if each not in batch]
    return [latencies[each.seed] for each in wanted]


def largest_rate(latencies: Callable[[float], Sequence[float]], solo: float, start: float, probes: int) -> float:
    """The largest rate seen to hold: half as much again or a third less until it turns, then ``probes`` bisections."""

    def holds(rate: float) -> bool:
        return float(np.mean([each <= TIMES_SOLO * solo for each in latencies(rate)])) >= IN_TIME

    low = high = start
    if holds(start):
        while holds(high := low * STRIDE) and high < 8 * start:  # few requests may hold at any rate
            low = high
    else:
        while not holds(low := high / STRIDE):
            high = low
    for _ in range(probes):
        rate = (low * high) ** 0.5
        low, high = (rate, high) if holds(rate) else (low, rate)
    return low


def measure(setting: Setting) -> list[Row]:
    """Largest rates by size of the catalog, and latencies under bursts; ``quick`` measures the smallest catalog alone."""
    torch.set_num_threads(setting.threads)
    sizes, count, probes = (SIZES[:1], 6, 1) if setting.quick else (SIZES, 40, 4)
    with bundled() as bench, loaded_base(bench) as base:
        catalog = Catalog(base, bench.base)
        with torch.inference_mode():
            return _measured(bench, base, catalog, sizes, count, probes)


def _measured(bench: Bench, base: Family, catalog: Catalog, sizes: Sequence[int], count: int, probes: int) -> list[Row]:
    bound = _bound(base)
    rows = [Row(label="computed bound: a full batch, the denoiser alone, mean steps", value=bound, unit="pictures/s")]
    ours, plain, mixing = Ours(bench, base, catalog), Plain(bench, base, catalog), Plain(bench, base, catalog)
    warm = requests(2, 1, 1.0)
    for one in (plain, mixing):
        one.prepare(warm)
    for make in (plain.load, mixing.peft):
        serial(make, warm)
    solo = median(ours.run([replace(warm[0], steps=max(STEPS))], 1.0)[0][0] for _ in range(5))
    rows.append(Row(label=f"solo latency, {max(STEPS)} steps", value=solo, unit="s"))

    def ours_at(size: int, variation: float = 1.0) -> Callable[[float], list[float]]:
        return lambda rate: ours.run(requests(count, size, variation), rate)[0]

    alone = largest_rate(ours_at(1), solo, bound, probes)
    rows.append(Row(label="N = 1", value=alone, unit="pictures/s"))
    for size in sizes:
        wanted, bursts = requests(count, size, 1.0), requests(count, size, BURSTS)
        for one in (plain, mixing):
            one.prepare(wanted)
        loading, of_load = serial(plain.load, wanted)
        setting, of_set = serial(_fresh(bench, base, catalog, wanted).set, wanted)
        _, pngs = ours.run(wanted, 1e6)
        mixed = [each for each in wanted if each.steps == wanted[0].steps][: LIMITS.max_batch]
        rows += [
            _equal(f"load, N = {size}", pngs, of_load),
            _equal(f"set, N = {size}", pngs, of_set),
            _equal(f"peft, N = {size}", [pngs[each.seed] for each in mixed], mixing.peft(mixed)),
        ]
        rate = largest_rate(ours_at(size), solo, bound, probes)
        late = _ninety_percent(ours_at(size, BURSTS)(bound / 2))
        peers = {
            "load": partial(waited, loading),
            "set": partial(waited, setting),
            "peft": partial(batched, mixing.peft),
        }
        for name, at in peers.items():
            latencies = partial(at, wanted)
            found = largest_rate(latencies, solo, bound / 2, probes if name == "peft" else 12)
            later = _ninety_percent(at(bursts, bound / 2))
            rows += [
                Row(
                    label=f"N = {size}, against {name}",
                    value=rate,
                    unit="pictures/s",
                    peer_value=found,
                    ratio=rate / found,
                    at_least=AIMS[name],
                ),
                Row(
                    label=f"N = {size}, bursts (cv {BURSTS:g}), latency of 90 %, against {name}",
                    value=late,
                    unit="s",
                    peer_value=later,
                    ratio=later / late,
                    at_least=AIMS[name],
                ),
            ]
        rows.append(Row(label=f"rate at N = {size} / at N = 1", value=rate / alone, unit="", at_least=0.95))
    return rows


def _ninety_percent(latencies: Sequence[float]) -> float:
    return float(np.quantile(latencies, IN_TIME))


def _fresh(bench: Bench, base: Family, catalog: Catalog, wanted: Sequence[Request]) -> Plain:
    plain = Plain(bench, base, catalog)
    plain.prepare(wanted)
    return plain


def _bound(base: Family) -> float:
    full = Inputs.random(base, 2 * LIMITS.max_batch)

    def taken() -> float:
        clock = Clock()
        full.through(base.denoiser)
        return clock.now

    return LIMITS.max_batch / (min(taken() for _ in range(4)) * float(np.mean(STEPS)))


def _equal(label: str, ours: Sequence[bytes], peer: Sequence[Image.Image]) -> Row:
    """Pictures to a grey level here and there: what the peers compute in batches of other sizes is rounded otherwise."""
    pairs = [
        (np.asarray(Image.open(io.BytesIO(one)), np.float32), np.asarray(other, np.float32))
        for one, other in zip(ours, peer, strict=True)
    ]
    difference = max(float(np.abs(one - other).max()) for one, other in pairs) / 255
    if difference > PIXEL:
        raise SystemExit(f"{label}: pictures differ by {difference:.1e} of a pixel's range: nothing is reported")
    return Row(label=f"largest difference of a picture from {label}", value=difference, unit="", at_most=PIXEL)
