"""Class images whose loss compares with what the base predicts of them."""

from dataclasses import replace
from pathlib import Path

import pytest
from fixtures_families import FAMILIES, quick
from fixtures_pipelines import QUICK, Studio, task, train

from packshot.domain.errors import Interrupted
from packshot.domain.training import Method, PriorTarget, TrainingConfig
from packshot.ports import Progress


def prior_losses(studio: Studio, config: TrainingConfig, cachedir: Path, folder: Path) -> list[float]:
    return [row["prior_loss"] for row in train(studio, task(studio, folder, config=config, cachedir=cachedir)).metrics]


@pytest.mark.parametrize("method", [Method.LORA, Method.FULL, Method.HYPERNETWORK])
@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_is_asked_of_a_model_that_is_still_the_base(
    family: str, method: Method, family_studios: dict[str, Studio], cachedir: Path, tmp_path: Path
) -> None:
    config = quick(family, method=method, steps=4, learning_rate=1e-2, prior_target=PriorTarget.BASE)
    studio = family_studios[family]
    first, *others = prior_losses(studio, config, cachedir, tmp_path / "base")
    assert first < 1e-6
    assert min(others) > 10 * first
    images = replace(config, prior_target=PriorTarget.IMAGES)
    assert prior_losses(studio, images, cachedir, tmp_path / "images")[0] > 0.01


@pytest.mark.parametrize(("steps", "expected"), [(2, 3 * 2), (6, 3 * 4), (100, 3 * 8)])
def test_a_class_image_is_predicted_as_often_as_it_is_seen_up_to_eight_times(
    steps: int, expected: int, studio: Studio, cachedir: Path, tmp_path: Path
) -> None:
    """Two of three class images are in every batch."""
    config = replace(QUICK, steps=steps, prior_target=PriorTarget.BASE)
    seen: list[Progress] = []
    of = task(studio, tmp_path, config=config, cachedir=cachedir)
    with pytest.raises(Interrupted):
        studio.trainer.train(of, report=seen.append, stop=lambda: any(each.phase == "training" for each in seen))
    told = [each for each in seen if each.phase == "predictions of the base"]
    assert told[-1].step == told[-1].num_steps == expected
