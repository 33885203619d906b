"""A training that several processes share: the weights of one process, up to the order of sums; one writes; none hangs."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fixtures_families import quick
from fixtures_pipelines import QUICK, Studio, half_mask, task, train
from fixtures_processes import EPSILON, Pair, check_close, of_folder, two_processes

from packshot.domain.errors import Interrupted, InvalidConfiguration, ProcessFailed
from packshot.domain.training import TrainingConfig
from packshot.domain.training_choices import LossTarget, Method, OptimizerKind
from packshot.ports import Progress


@pytest.fixture(scope="module", autouse=True)
def large_epsilon() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("packshot.diffusion.optimizers.EPSILON", EPSILON)
        yield


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with two_processes() as pair:
        yield pair
    assert pair.other.returncode == 0


CASES: list[tuple[str, dict[str, Any]]] = [
    ("stable-diffusion", {"method": Method.FULL, "train_text_encoder": True, "gradient_checkpointing": True}),
    (
        "stable-diffusion",
        {
            "method": Method.PIVOTAL,
            "batch_size": 3,
            "ema_decay": 0.9,
            "background_weight": 0.2,
            "prior_target": LossTarget.BASE,
            "background_target": LossTarget.BASE,
        },
    ),
    ("stable-diffusion", {"method": Method.TEXTUAL_INVERSION, "caption_dropout": 0.6, "prior_weight": 0.0}),
    ("stable-diffusion-xl", {"method": Method.LORA, "gradient_accumulation_steps": 2, "aspect_ratio_buckets": True}),
    ("stable-diffusion-3", {"method": Method.HYPERNETWORK}),
    ("flux", {"method": Method.LORA, "optimizer": OptimizerKind.PRODIGY, "learning_rate": 1.0}),
]


@pytest.mark.parametrize(("family", "options"), CASES, ids=[f"{name} {of['method']}" for name, of in CASES])
def test_two_processes_learn_what_one_learns(
    family: str,
    options: dict[str, Any],
    pair: Pair,
    family_studios: dict[str, Studio],
    cachedir: Path,
    tmp_path: Path,
) -> None:
    studio = of_folder(family_studios[family])
    photos = task(studio, tmp_path).examples
    masked = tuple(replace(each, mask=half_mask()) for each in photos)
    config = quick(family, steps=3, **options)
    alone = train(studio, task(studio, tmp_path / "alone", config=config, photos=masked, cachedir=cachedir))
    shared = task(studio, tmp_path / "shared", config=config, photos=masked, cachedir=cachedir)
    check_close(pair.train(studio, shared), alone)


def test_a_shared_training_goes_on_from_its_checkpoint_with_one_process_or_two(
    pair: Pair, studio: Studio, cachedir: Path, tmp_path: Path
) -> None:
    studio = of_folder(studio)
    whole = pair.train(studio, task(studio, tmp_path / "whole", cachedir=cachedir))
    for name in ("two", "one"):
        of = task(studio, tmp_path / name, cachedir=cachedir)
        seen: list[Progress] = []
        with pytest.raises(Interrupted):
            pair.train(studio, of, report=seen.append, stop=lambda seen=seen: seen[-1:] != [] and seen[-1].step == 3)
        if name == "two":
            assert pair.train(studio, of) == whole
        else:
            check_close(train(studio, of), whole)


def test_only_the_leader_writes(pair: Pair, studio: Studio, cachedir: Path, tmp_path: Path) -> None:
    studio = of_folder(studio)
    of = task(studio, tmp_path / "run", cachedir=cachedir)
    before = set(tmp_path.rglob("*"))
    trained = pair.train(studio, of)
    assert [path.name for path in (of.workdir / "checkpoints").iterdir()] == ["step-00000004"]
    rows = (of.workdir / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row) for row in rows] == list(trained.metrics)
    written = {path.parent for path in set(tmp_path.rglob("*")) - before if path.is_file()}
    assert written == {of.workdir, of.workdir / "checkpoints" / "step-00000004"}


def test_a_batch_that_is_too_small_to_share_is_refused(pair: Pair, studio: Studio, tmp_path: Path) -> None:
    studio = of_folder(studio)
    with pytest.raises(InvalidConfiguration, match="batch_size is 1, and 2 processes share"):
        pair.train(studio, task(studio, tmp_path / "run", config=replace(QUICK, batch_size=1)))


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        (replace(QUICK, seed=13), ProcessFailed, "process 1 of 2 failed: MemoryError: no room"),
        (replace(QUICK, seed=15), ProcessFailed, "process 1 of 2 failed: MemoryError: no room for it"),
        (replace(QUICK, seed=14), InvalidConfiguration, "diverged at step 1"),
    ],
)
def test_what_fails_in_one_process_ends_the_training_in_all(
    config: TrainingConfig,
    error: type[Exception],
    message: str,
    pair: Pair,
    studio: Studio,
    cachedir: Path,
    tmp_path: Path,
) -> None:
    studio = of_folder(studio)
    with pytest.raises(error, match=message):
        pair.train(studio, task(studio, tmp_path / "run", config=config, method=Method.FULL, cachedir=cachedir))
    pair.train(studio, task(studio, tmp_path / "next", config=replace(QUICK, steps=1), cachedir=cachedir))


def test_a_failure_of_the_leader_reaches_the_other(
    pair: Pair, studio: Studio, cachedir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    studio = of_folder(studio)
    with monkeypatch.context() as patch, pytest.raises(MemoryError, match="here"):
        patch.setattr("packshot.diffusion.loop.squared_errors", lambda _: (_ for _ in ()).throw(MemoryError("here")))
        pair.train(studio, task(studio, tmp_path / "run", cachedir=cachedir))
    pair.train(studio, task(studio, tmp_path / "next", config=replace(QUICK, steps=1), cachedir=cachedir))
