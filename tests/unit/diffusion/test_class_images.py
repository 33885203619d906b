"""Class images belong to the class: shared, in a fixed order, and the smaller set is the beginning of the larger."""

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from fixtures_pipelines import QUICK, TOKEN, Studio, never, silent, task
from PIL import Image

from packshot.diffusion.class_images import ClassImageSet, class_images
from packshot.diffusion.generator import DiffusersGenerator
from packshot.diffusion.trainer import DiffusersTrainer
from packshot.domain.generation import SamplingSettings
from packshot.domain.models import BaseModelRef
from packshot.domain.training_choices import Method
from packshot.ports import LoadedFineTune, Progress


class CountingGenerator(DiffusersGenerator):
    """Notes what it is asked for."""

    def __init__(self, studio: Studio) -> None:
        super().__init__(studio.bases, studio.engine)
        self.asked: list[tuple[tuple[str, ...], int]] = []

    def generate(
        self,
        base: BaseModelRef,
        fine_tune: LoadedFineTune | None,
        prompts: Sequence[str],
        sampling: SamplingSettings,
        *,
        report: Callable[[Progress], None],
    ) -> list[bytes]:
        assert fine_tune is None
        self.asked.append((tuple(prompts), sampling.num_images))
        return super().generate(base, fine_tune, prompts, sampling, report=report)


CAPTIONS = (f"two {TOKEN} apples on grass", "on a table")


def make(studio: Studio, cachedir: Path, count: int) -> list[bytes]:
    wanted = ClassImageSet(
        base=studio.base,
        prompts=("a photo of an apple",),
        count=count,
        resolution=16,
        inference_steps=2,
        guidance_scale=4.0,
        max_batch=8,
    )
    return [png for _, png in class_images([wanted], studio.generator, cachedir, silent, lambda: None)]


def test_two_trainings_of_a_class_ask_for_its_images_once(studio: Studio, tmp_path: Path) -> None:
    generator = CountingGenerator(studio)
    trainer = DiffusersTrainer(studio.bases, generator)
    for name, method in (("one", Method.PIVOTAL), ("two", Method.FULL)):
        config = replace(QUICK, steps=1, num_class_images=20, method=method)
        trainer.train(task(studio, tmp_path / name, config=config), report=silent, stop=never)
    assert generator.asked == [(("a photo of an apple",), 16), (("a photo of an apple",), 4)]
    without = replace(QUICK, steps=1, prior_weight=0.0)
    trainer.train(task(studio, tmp_path / "three", config=without), report=silent, stop=never)
    assert len(generator.asked) == 2


def test_class_captions_draw_the_scenes_of_the_references(studio: Studio, tmp_path: Path) -> None:
    """About half of the images, without the identifier, once for all categories with the same captions."""
    generator, made = CountingGenerator(studio), list[Progress]()
    trainer = DiffusersTrainer(studio.bases, generator)
    photos = replace(task(studio, tmp_path), examples=tuple(
        replace(example, caption=caption)
        for example, caption in zip(task(studio, tmp_path).examples, CAPTIONS, strict=False)
    ))  # fmt: skip
    config = replace(QUICK, steps=1, num_class_images=5, class_captions=True)
    for name in ("one", "two"):
        again = replace(photos, config=config, workdir=tmp_path / name, cachedir=tmp_path / "cache")
        trainer.train(again, report=made.append, stop=never)
    captions = ("two apples on grass", "a photo of an apple, on a table")
    assert generator.asked == [(("a photo of an apple",), 3), (captions, 1)]
    steps = [each.step for each in made if each.phase == "class images"]
    assert (steps[-1], steps) == (5, sorted(steps))
    assert {each.num_steps for each in made if each.phase == "class images"} == {5}


def test_a_longer_set_begins_with_the_shorter_one(studio: Studio, tmp_path: Path) -> None:
    """To the bit where the batches are equal; elsewhere a batch of another size rounds otherwise."""
    longer = make(studio, tmp_path, 20)
    assert make(studio, tmp_path, 16) == longer[:16]
    for one, other in zip(make(studio, tmp_path, 19), longer, strict=False):
        pixels = [np.asarray(Image.open(io.BytesIO(png)), dtype=np.int16) for png in (one, other)]
        assert np.abs(pixels[0] - pixels[1]).max() <= 1
    assert len(set(longer)) == 20
