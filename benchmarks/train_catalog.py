"""Benchmark 6: the categories of one class trained together, beside the reference recipe one category after another.

The reference recipe does for every category what a run of it in an empty folder does: it loads the pipeline and makes
the class images with it, four at a time, at its own 50 steps; loads the parts and trains, encoding pixels and prompts at every step. It
has neither caches nor anything that two runs could share. Not counted for either: starting Python and importing torch, which
the recipe does for every category (a row of its own), and decoding its photos, which it gets as pixels. Ours loads the base once, makes
the same number of class images with as many steps once, and encodes every photo of every category.

How many class images there are decides how much there is to share, so two numbers are measured. The fewest are those of
the recipe's options: 100 by default, in the 500 steps of its example. The most are what its README takes from the
method's paper, ``num_epochs * num_samples``, one for every photo that a training takes; the same sentence says that 200
to 300 do in most cases, which is in between. All that is in 32 bits, as the recipe is by default, so the rows say what
sharing gives. One row more is what either gives a user who says nothing: ours makes class images with 20 steps, and computes
in bfloat16 where the processor multiplies it; it has no aim, since the two do not make the same class images. A ratio
counts only where each adapter equals that of a training alone, to the bit, with either number: a row of its own.
"""

import dataclasses
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline

from benchmarks.bases import Bench, noise_png, shaped_like_sd15
from benchmarks.harness import Row, Setting, interleaved, versus
from benchmarks.train_one import CONFIG, reference
from packshot.diffusion.floats import resolved
from packshot.diffusion.weights import WEIGHTS_FILE
from packshot.domain.training import TrainingConfig
from packshot.domain.training_choices import MixedPrecision
from packshot.domain.training_prompts import class_prompt
from packshot.ports import GroupMember, Progress, TrainedWeights, TrainingExample, TrainingTask

DIVISOR, RESOLUTION = 8, 256
PHOTOS = 4
CLASS_STEPS, CLASS_GUIDANCE = 50, 7.5  # the pipeline's defaults, which the recipe takes
CLASS_BATCH = 4  # what the recipe makes at once
REFERENCE_RUNS = 2  # a round
MOST, FEWEST = 1, 100 / 500  # class images for each photo that a training takes
AS_IT_COMES = {
    "mixed_precision": resolved(MixedPrecision.AUTO, torch.device("cpu")),
    "class_inference_steps": TrainingConfig.class_inference_steps,
    "class_guidance_scale": TrainingConfig.class_guidance_scale,
}

Train = Callable[[Bench, Sequence[TrainingTask]], list[TrainedWeights]]


def measure(setting: Setting) -> list[Row]:
    """Seconds a category of 16 together, against the reference recipe and against our own trainings one by one."""
    torch.set_num_threads(setting.threads)
    count, steps, rounds = (2, 2, 1) if setting.quick else (16, 10, 2)
    with shaped_like_sd15(divisor=DIVISOR, resolution=RESOLUTION) as bench:
        numbers = [max(1, round(steps * per_photo)) for per_photo in ((FEWEST,) if setting.quick else (MOST, FEWEST))]
        catalog = Catalog(bench, count=count, steps=steps, numbers=numbers)
        interleaved(Catalog(bench, count=1, steps=2, numbers=[1]).contestants(), 0)
        times = interleaved(catalog.contestants(), rounds, warm_up=False)
    start = sorted(process_start() for _ in range(3))[1]
    equal = all(catalog.found[together, number] == catalog.found[alone, number] for number in numbers)
    what = f"seconds a category, {count} together"
    reference = {
        number: [
            made + trained
            for made, trained in zip(times[f"reference, {number} images"], times["reference"], strict=True)
        ]
        for number in numbers
    }
    floats = {MixedPrecision.NO: "32 bits", MixedPrecision.BF16: "bfloat16"}[AS_IT_COMES["mixed_precision"]]
    return [
        *(
            versus(
                f"{what}, with {number} class images in {steps} steps (peer: reference recipe)",
                times[f"together, {number} images"],
                seconds,
                "s",
                at_least=7.0,
            )
            for number, seconds in reference.items()
        ),
        versus(
            f"{what}, with {min(numbers)} class images in {steps} steps, as it comes: {floats}, "
            f"{AS_IT_COMES['class_inference_steps']} steps an image (peer: reference recipe, as it comes: 32 bits, 50 steps)",
            times["together, as it comes"],
            reference[min(numbers)],
            "s",
        ),
        versus(
            f"{what}, class images there (peer: reference recipe)",
            times["together, images there"],
            times["reference"],
            "s",
        ),
        versus(
            f"{what}, class images there (peer: ours, one by one)",
            times["together, images there"],
            times[f"alone, {min(numbers)} images there"],
            "s",
        ),
        Row(label="starting Python and importing diffusers and peft, in no row above", value=start, unit="s"),
        Row(label="adapters equal to those of trainings alone", value=float(equal), unit="of 1", at_least=1.0),
    ]


class Catalog:
    """``count`` categories of one class, each with photos of its own, and every way to train them.

    ``numbers`` are how many class images there are, each of which is measured.
    """

    def __init__(self, bench: Bench, *, count: int, steps: int, numbers: Sequence[int]) -> None:
        self._bench, self._count, self._steps, self._numbers = bench, count, steps, numbers
        self._config = dataclasses.replace(
            CONFIG,
            batch_size=1,
            steps=steps,
            class_inference_steps=CLASS_STEPS,
            class_guidance_scale=CLASS_GUIDANCE,
        )
        self._rounds = 0
        self.found: dict[tuple[Train, int], list[bytes]] = {}

    def contestants(self) -> dict[str, Callable[[], float]]:
        """Seconds a category by each way; those that make class images come before those that take them."""
        fewest = min(self._numbers)
        return {
            **{
                f"reference, {number} images": self._each(partial(self._reference_images, number))
                for number in self._numbers
            },
            "reference": self._each(self._reference_run),
            **{f"together, {number} images": partial(self._ours, together, number) for number in self._numbers},
            "together, as it comes": partial(self._ours, together, fewest, **AS_IT_COMES),
            **{
                f"alone, {number} images there": partial(self._ours, alone, number, images_there=True)
                for number in self._numbers
            },
            "together, images there": partial(self._ours, together, fewest, images_there=True),
        }

    def _each(self, run: Callable[[], object]) -> Callable[[], float]:
        """Seconds of one run, the mean of a few, as each category's is a run of its own that shares nothing."""
        count = min(self._count, REFERENCE_RUNS)

        def timed() -> float:
            start = time.perf_counter()
            for _ in range(count):
                run()
            return (time.perf_counter() - start) / count

        return timed

    def _reference_images(self, number: int) -> None:
        pipeline = StableDiffusionPipeline.from_pretrained(self._bench.folder, safety_checker=None)
        pipeline.set_progress_bar_config(disable=True)
        for made in range(0, number, CLASS_BATCH):
            prompts = [class_prompt("apple")] * min(CLASS_BATCH, number - made)
            pipeline(prompts, height=RESOLUTION, width=RESOLUTION)

    def _reference_run(self) -> None:
        reference(self._bench, 1, self._steps)()

    def _ours(self, train: Train, number: int, *, images_there: bool = False, **values: Any) -> float:
        """Trains with empty caches, but for the ``number`` class images where they are to be there; ``values`` configure."""
        config = dataclasses.replace(self._config, num_class_images=number, **values)
        self._rounds += 1
        work = self._bench.work / f"{self._count}-{self._rounds}"
        made = self._bench.work / f"class-images-{self._count}-{number}"
        if images_there:
            shutil.copytree(made, work / "cache" / "class-images")
        fresh = Bench(self._bench.folder, work)
        tasks = [self._task(fresh, each, config) for each in range(self._count)]
        start = time.perf_counter()
        trained = train(fresh, tasks)
        seconds = (time.perf_counter() - start) / self._count
        if not values:
            self.found[train, number] = [each.files[WEIGHTS_FILE] for each in trained]
            if not images_there:
                shutil.copytree(work / "cache" / "class-images", made, dirs_exist_ok=True)
        return seconds

    def _task(self, bench: Bench, number: int, config: TrainingConfig) -> TrainingTask:
        photos = tuple(
            TrainingExample(image=noise_png(PHOTOS * number + each, RESOLUTION), caption="", mask=None)
            for each in range(PHOTOS)
        )
        return dataclasses.replace(
            bench.task(config),
            token=f"<packshot-{number:02d}>",
            examples=photos,
            workdir=bench.work / str(number),
        )


def process_start() -> float:
    """Seconds until a new process has imported what the recipe imports first."""
    start = time.perf_counter()
    imports = "import diffusers, peft, transformers; diffusers.StableDiffusionPipeline"
    subprocess.run([sys.executable, "-c", imports], check=True, cwd=Path(__file__).parents[1])
    return time.perf_counter() - start


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
