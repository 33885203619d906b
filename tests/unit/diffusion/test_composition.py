"""Composed pictures: every subject's adapter in its box, and nothing else changed."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from fixtures_families import FAMILIES
from fixtures_mixtures import TOLERANCE, as_floats, fine_tune, floats_instead_of_pngs, mixed, plain, prompt_for
from fixtures_pipelines import RESOLUTION, Studio
from torch import Tensor

from packshot.diffusion.resident import EngineLimits
from packshot.diffusion.samples import Sample
from packshot.diffusion.tickets import PictureRequest
from packshot.domain.composition import Box
from packshot.domain.errors import IncompatibleFineTune, InvalidComposition, PackshotError
from packshot.domain.generation import SamplingSettings
from packshot.domain.training_choices import Method
from packshot.ports import LoadedFineTune, LoadedSubject

LEFT, RIGHT, WHOLE = Box.of((0, 0, 0.5, 1)), Box.of((0.5, 0, 1, 1)), Box.of((0, 0, 1, 1))
CORNER = Box.of((0.5, 0.5, 1, 1))
SAMPLING = SamplingSettings(inference_steps=4, guidance_scale=3.0, width=2 * RESOLUTION, height=RESOLUTION, seed=3)


@pytest.fixture(autouse=True)
def floats(monkeypatch: pytest.MonkeyPatch) -> None:
    floats_instead_of_pngs(monkeypatch)


@pytest.fixture(scope="module")
def tuned(family_studios: dict[str, Studio]) -> dict[str, list[LoadedFineTune]]:
    methods = (Method.PIVOTAL, Method.LORA, Method.TEXTUAL_INVERSION)
    return {
        family: [fine_tune(studio, method, 21 + number, rank=number + 1) for number, method in enumerate(methods)]
        for family, studio in family_studios.items()
    }


def composed(studio: Studio, *placed: tuple[LoadedFineTune, Box], **changes: Any) -> PictureRequest:
    return PictureRequest(
        base=studio.base,
        fine_tune=None,
        prompts=("an apple beside an apple on a table",),
        sampling=replace(SAMPLING, **changes),
        subjects=tuple(LoadedSubject(fine_tune=each, prompt=prompt_for(each), box=box) for each, box in placed),
    )


def single(studio: Studio, each: LoadedFineTune | None, **changes: Any) -> PictureRequest:
    return PictureRequest(
        base=studio.base, fine_tune=each, prompts=(prompt_for(each),), sampling=replace(SAMPLING, **changes)
    )


def made(studio: Studio, *requests: PictureRequest, join_at: int = 0, **limits: int) -> list[Tensor]:
    tickets = mixed(studio, [(join_at * number, each) for number, each in enumerate(requests)], EngineLimits(**limits))
    return [as_floats(ticket.result(0)[0]) for ticket in tickets]


def far(one: Tensor, other: Tensor) -> float:
    return (one - other).abs().max().item()


@pytest.mark.parametrize("family", FAMILIES)
def test_one_subject_in_the_whole_picture_is_the_picture_without_a_box(
    family: str, tuned: dict[str, list[LoadedFineTune]], family_studios: dict[str, Studio]
) -> None:
    studio = family_studios[family]
    for each in tuned[family]:
        (found,) = made(studio, composed(studio, (each, WHOLE)))
        with studio.bases.borrow(studio.base) as base:
            (expected,) = plain(base, single(studio, each))
        assert far(found, expected) <= TOLERANCE


@pytest.mark.parametrize("family", FAMILIES)
def test_a_composed_picture_is_the_same_whatever_else_is_in_the_batch(
    family: str, tuned: dict[str, list[LoadedFineTune]], family_studios: dict[str, Studio]
) -> None:
    studio = family_studios[family]
    one, two, three = tuned[family]
    wanted = [
        composed(studio, (one, LEFT), (two, RIGHT)),
        composed(studio, (two, CORNER), inference_steps=3, guidance_scale=1.0),
        composed(studio, (three, LEFT), (two, RIGHT), seed=4),
    ]
    alone = [made(studio, each)[0] for each in wanted]
    others = [single(studio, two), single(studio, None, inference_steps=5)]
    mixture = made(studio, *wanted, *others, join_at=1, max_batch=7)
    assert max(far(one, other) for one, other in zip(mixture, alone, strict=False)) <= TOLERANCE
    assert min(far(one, other) for one in alone for other in alone if one is not other) > 20 * TOLERANCE


def test_in_one_step_a_subject_changes_its_own_box_alone(
    tuned: dict[str, list[LoadedFineTune]], family_studios: dict[str, Studio], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sample, "png", lambda sample: sample.latents.numpy().tobytes())  # the autoencoder sees all
    studio = family_studios["stable-diffusion"]
    one, two, _ = tuned["stable-diffusion"]
    first, second = made(
        studio,
        composed(studio, (one, LEFT), (two, RIGHT), inference_steps=1),
        composed(studio, (one, LEFT), (one, RIGHT), inference_steps=1),
    )
    change = (first - second).view(-1, RESOLUTION).abs().amax(dim=0)  # by column of latent cells
    middle = RESOLUTION // 2
    assert change[: middle - 1].max() <= TOLERANCE < 20 * TOLERANCE < change[middle + 1 :].min()


def test_order_of_mention_and_of_boxes_go_together(
    tuned: dict[str, list[LoadedFineTune]], family_studios: dict[str, Studio]
) -> None:
    studio = family_studios["stable-diffusion"]
    one, two, _ = tuned["stable-diffusion"]
    first, same, swapped = made(
        studio,
        composed(studio, (one, LEFT), (two, RIGHT)),
        composed(studio, (two, RIGHT), (one, LEFT)),
        composed(studio, (two, LEFT), (one, RIGHT)),
    )
    assert far(first, same) <= TOLERANCE
    assert far(first, swapped) > 20 * TOLERANCE


def test_what_cannot_stand_beside_others_is_refused_and_the_rest_goes_on(
    tuned: dict[str, list[LoadedFineTune]], family_studios: dict[str, Studio]
) -> None:
    studio = family_studios["stable-diffusion"]
    one, two, three = tuned["stable-diffusion"]
    full = fine_tune(studio, Method.FULL, 31)
    other = family_studios["stable-diffusion-xl"]
    requests = [
        composed(studio, (one, LEFT), (full, RIGHT)),
        composed(studio, (one, LEFT), (two, RIGHT)),
        composed(studio, (tuned["stable-diffusion-xl"][2], LEFT), (two, RIGHT)),
        composed(studio, (one, LEFT), (three, RIGHT)),
    ]
    assert other.base.digest != studio.base.digest
    errors: list[type[PackshotError] | None] = []
    for ticket in mixed(studio, [(0, each) for each in requests], EngineLimits(adapter_ranks=2)):
        error = ticket.future.exception(0)
        errors.append(type(error) if error else None)  # type: ignore[arg-type]
    assert errors == [InvalidComposition, InvalidComposition, IncompatibleFineTune, None]


def test_a_composition_larger_than_the_batch_passes_alone(
    tuned: dict[str, list[LoadedFineTune]], family_studios: dict[str, Studio]
) -> None:
    studio = family_studios["stable-diffusion"]
    one, two, _ = tuned["stable-diffusion"]
    request = composed(studio, (one, LEFT), (two, CORNER))
    (alone,) = made(studio, request)
    crowded = made(studio, single(studio, one), request, single(studio, None), max_batch=1)
    assert far(crowded[1], alone) <= TOLERANCE
    assert torch.isfinite(alone).all()
