"""Benchmark 6: the categories of one class trained together, beside the reference recipe one category after another.

Every training is timed from loading the base to the last step; the class images are made before the clock starts, for
both. A ratio counts only where each adapter equals that of a training alone, to the bit, which is a row of its own.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch

from benchmarks.bases import Bench, shaped_like_sd15
from benchmarks.harness import Row, Setting, interleaved, versus
from benchmarks.train_one import CONFIG, reference
from packshot.ports import GroupMember, Progress, TrainedWeights, TrainingTask

DIVISOR, RESOLUTION = 8, 256


def measure(setting: Setting) -> list[Row]:
    """Seconds a category of 16 together, against the reference recipe and against our own trainings one by one."""
    torch.set_num_threads(setting.threads)
    count, steps = (4, 4) if setting.quick else (16, 20)
    config = dataclasses.replace(CONFIG, batch_size=1, steps=steps)
    with shaped_like_sd15(divisor=DIVISOR, resolution=RESOLUTION) as bench:
        rounds = 1 if setting.quick else 3
        found: dict[str, list[TrainedWeights]] = {}

        def tasks() -> list[TrainingTask]:
            return [
                dataclasses.replace(bench.task(config, photos=4), token=f"<packshot-{n:02d}>") for n in range(count)
            ]

        def keep(name: str, train: Callable[[Bench, Sequence[TrainingTask]], list[TrainedWeights]]) -> float:
            fresh = Bench(bench.folder, bench.work)
            chosen = tasks()
            start = time.perf_counter()
            found[name] = train(fresh, chosen)
            return (time.perf_counter() - start) / count

        def reference_catalog() -> float:
            start = time.perf_counter()
            for _ in range(count):
                reference(bench, 1, steps)()
            return (time.perf_counter() - start) / count

        times = interleaved(
            {
                "reference": reference_catalog,
                "alone": lambda: keep("alone", alone),
                "together": lambda: keep("together", together),
            },
            rounds,
        )
    equal = [each.files for each in found["together"]] == [each.files for each in found["alone"]]
    what = f"seconds a category, {count} together"
    return [
        versus(f"{what} (peer: reference recipe)", times["together"], times["reference"], "s", at_least=7.0),
        versus(f"{what} (peer: ours, one by one)", times["together"], times["alone"], "s"),
        Row(label="adapters equal to those of trainings alone", value=float(equal), unit="of 1", at_least=1.0),
    ]


def alone(bench: Bench, tasks: Sequence[TrainingTask]) -> list[TrainedWeights]:
    """Our trainings one after another on one loaded base."""
    return [bench.trainer.train(task, report=_silent, stop=_never) for task in tasks]


def together(bench: Bench, tasks: Sequence[TrainingTask]) -> list[TrainedWeights]:
    """Our trainings in one group."""
    found: dict[int, TrainedWeights] = {}

    def member(number: int, task: TrainingTask) -> GroupMember:
        return GroupMember(
            task=task,
            report=_silent,
            stop=_never,
            own=nullcontext,
            finish=lambda trained: found.update({number: trained}),
            ended=lambda: number in found,
        )

    bench.trainer.train_together([member(number, task) for number, task in enumerate(tasks)])
    return [found[number] for number in range(len(tasks))]


def _silent(_: Progress) -> None:
    pass


def _never() -> bool:
    return False
