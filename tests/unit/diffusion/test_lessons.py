"""Class images, and what surrounds the product in photos, whose loss compares with what the base predicts of them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fixtures_families import FAMILIES, quick
from fixtures_pipelines import QUICK, TOKEN, Studio, examples, half_mask, never, silent, task, train
from safetensors.torch import load

from packshot.diffusion.batches import BatchPlan
from packshot.diffusion.preparation import Preparation
from packshot.domain.errors import Interrupted
from packshot.domain.training import TrainingConfig
from packshot.domain.training_choices import HorizontalFlip, LossTarget, Method
from packshot.ports import Progress, TrainingTask


def prior_losses(studio: Studio, config: TrainingConfig, cachedir: Path, folder: Path) -> list[float]:
    return [row["prior_loss"] for row in train(studio, task(studio, folder, config=config, cachedir=cachedir)).metrics]


@pytest.mark.parametrize("method", [Method.LORA, Method.FULL, Method.HYPERNETWORK])
@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_is_asked_of_a_model_that_is_still_the_base(
    family: str, method: Method, family_studios: dict[str, Studio], cachedir: Path, tmp_path: Path
) -> None:
    config = quick(family, method=method, steps=4, learning_rate=1e-2, prior_target=LossTarget.BASE)
    studio = family_studios[family]
    first, *others = prior_losses(studio, config, cachedir, tmp_path / "base")
    assert first < 1e-6
    assert min(others) > 10 * first
    images = replace(config, prior_target=LossTarget.IMAGES)
    assert prior_losses(studio, images, cachedir, tmp_path / "images")[0] > 0.01


@pytest.mark.parametrize(("steps", "expected"), [(2, 3 * 2), (6, 3 * 4), (100, 3 * 8)])
def test_a_class_image_is_predicted_as_often_as_it_is_seen_up_to_eight_times(
    steps: int, expected: int, studio: Studio, cachedir: Path, tmp_path: Path
) -> None:
    """Two of three class images are in every batch."""
    config = replace(QUICK, steps=steps, prior_target=LossTarget.BASE)
    assert num_predictions(studio, task(studio, tmp_path, config=config, cachedir=cachedir)) == expected


def num_predictions(studio: Studio, of: TrainingTask, phase: str = "predictions of the base") -> int:
    """How many the base makes before the training begins."""
    seen: list[Progress] = []
    with pytest.raises(Interrupted):
        studio.trainer.train(of, report=seen.append, stop=lambda: any(each.phase == "training" for each in seen))
    told = [each for each in seen if each.phase == phase]
    assert [each.num_steps for each in told[-1:]] == [each.step for each in told[-1:]]
    return told[-1].step if told else 0


SURROUNDINGS = replace(QUICK, prior_weight=0.0, background_target=LossTarget.BASE)


@pytest.mark.parametrize("family", FAMILIES)
def test_around_the_product_little_is_asked_of_a_model_that_is_still_the_base(
    family: str, family_studios: dict[str, Studio], cachedir: Path, tmp_path: Path
) -> None:
    """The product is half of the photos, and so of what is asked."""
    studio = family_studios[family]

    def first_loss(target: LossTarget) -> float:
        config = quick(family, method=Method.LORA, steps=1, prior_weight=0.0, background_target=target)
        photos = examples(mask=half_mask())
        of = task(studio, tmp_path / target, config=config, photos=photos, cachedir=cachedir)
        return train(studio, replace(of, trained_phrase="apple")).metrics[0]["loss"]

    assert first_loss(LossTarget.BASE) < 0.7 * first_loss(LossTarget.IMAGES)


@pytest.mark.parametrize(("steps", "masked", "expected"), [(6, 4, 4 * 3), (1000, 4, 4 * 64), (6, 0, 0)])
def test_a_photo_with_a_mask_is_predicted_as_often_as_it_is_seen_up_to_64_times(
    steps: int, masked: int, expected: int, studio: Studio, cachedir: Path, tmp_path: Path
) -> None:
    """Two of five photos are in every batch."""
    photos = (*examples(masked, mask=half_mask()), *examples(5)[masked:])
    config = replace(SURROUNDINGS, steps=steps)
    of = task(studio, tmp_path, config=config, photos=photos, cachedir=cachedir)
    assert num_predictions(studio, of, "predictions around the product") == expected


def test_photos_without_masks_are_learned_as_they_were(studio: Studio, cachedir: Path, tmp_path: Path) -> None:
    with_photos, with_base = (
        load(
            train(studio, task(studio, tmp_path / target, config=config, cachedir=cachedir)).files[
                "weights.safetensors"
            ]
        )
        for target in (LossTarget.IMAGES, LossTarget.BASE)
        for config in [replace(SURROUNDINGS, background_target=target)]
    )
    assert with_photos.keys() == with_base.keys()
    assert all(torch.equal(with_base[name], tensor) for name, tensor in with_photos.items())


def test_the_photo_itself_is_asked_for_inside_of_the_mask_and_mirrored_with_it(
    studio: Studio, cachedir: Path, tmp_path: Path
) -> None:
    config = replace(SURROUNDINGS, steps=50, batch_size=10, horizontal_flip=HorizontalFlip.ON)
    photos = examples(mask=half_mask())
    of = task(studio, tmp_path, config=config, photos=photos, cachedir=cachedir)
    with studio.bases.borrow(studio.base) as base:
        plan = Preparation(base=base, generator=studio.generator).plan(of, silent, never)
        sides: set[bool] = set()
        for example in plan.instances:
            assert example.mask is not None
            assert example.lesson is not None
            product = example.mask == 1
            asked = base.target(example.latents.mean[None], example.lesson.noise[None], example.lesson.timestep[None])[
                0
            ]
            same = (asked - example.lesson.target).abs().mean(0, keepdim=True) < 1e-6
            assert same[product].all()
            assert not same[example.mask == 0].any()
            sides.add(bool(product[..., 0].all()))
    assert sides == {True, False}


def test_a_product_is_seen_in_front_of_class_images_of_as_many(studio: Studio, cachedir: Path, tmp_path: Path) -> None:
    config = replace(
        QUICK, background_target=LossTarget.BASE, steps=50, num_class_images=2, horizontal_flip=HorizontalFlip.OFF
    )
    # Those with a caption, of which "on grass" alone shows one apple in a photo.
    photos = examples(mask=half_mask())[1:]

    def plan(**changes: object) -> BatchPlan:
        of = task(studio, tmp_path, config=replace(config, **changes), photos=photos, cachedir=cachedir)
        with studio.bases.borrow(studio.base) as base:
            return Preparation(base=base, generator=studio.generator).plan(of, silent, never)

    asked = f"a photo of a {TOKEN} apple"
    shown = plan(background_replacement=0.5)
    grounds = [each.latents for each in shown.class_examples]
    sources = [each for each in plan(background_target=LossTarget.IMAGES).instances for _ in range(25)]
    replaced = 0
    for seen, own, source in zip(shown.instances, plan().instances, sources, strict=True):
        latents = seen.latents.mean
        if torch.equal(latents, own.latents.mean):
            assert seen.prompt == own.prompt
            continue
        replaced += 1
        assert seen.prompt == asked
        assert own.prompt == f"{asked}, on grass"
        assert seen.mask is not None
        drawn = (own.latents.mean - source.latents.mean) / source.latents.std
        product, around = ((seen.mask == share).expand_as(latents) for share in (1, 0))
        assert torch.equal(latents[product], own.latents.mean[product])
        assert any(
            torch.allclose(latents[around], (each.mean + each.std * drawn)[around], atol=1e-4) for each in grounds
        )
    assert 0.2 < replaced / 25 < 0.8
