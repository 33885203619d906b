"""Validation pictures on the way: made when they are due, without a trace in what is trained."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fixtures_families import FAMILIES, quick
from fixtures_pipelines import PHRASE, QUICK, Studio, loaded, never, silent, task, train
from safetensors.torch import load

from packshot.domain.errors import Interrupted
from packshot.domain.generation import SamplingSettings
from packshot.domain.step_choice import LookScores
from packshot.domain.training import TrainingConfig
from packshot.domain.training_choices import Method
from packshot.ports import GroupMember, Progress, Sample, Scoring, TrainedWeights, TrainingTask

PROMPTS = (f"a {PHRASE} on a", "two apples")
SAMPLES = tuple(Sample(prompt=prompt, seed=7) for prompt in PROMPTS)


def looked(studio: Studio, workdir: Path, cachedir: Path, config: TrainingConfig, **changes: Any) -> TrainingTask:
    written = ("a {product} on a", "two apples")
    config = replace(config, validation_prompts=written, **{"validation_every_steps": 4, **changes})
    return task(studio, workdir, config=config, cachedir=cachedir, validation=SAMPLES)


def tensors(trained: TrainedWeights) -> dict[str, bytes]:
    weights = load(trained.files["weights.safetensors"])
    return {name: tensor.numpy().tobytes() for name, tensor in weights.items()}


@pytest.mark.parametrize("method", list(Method))
def test_a_training_with_pictures_on_the_way_has_the_weights_of_one_without(
    method: Method, studio: Studio, cachedir: Path, tmp_path: Path
) -> None:
    plain = train(studio, task(studio, tmp_path / "plain", method=method, cachedir=cachedir))
    seen = train(studio, looked(studio, tmp_path / "seen", cachedir, QUICK, method=method))
    assert tensors(seen) == tensors(plain)
    assert seen.metrics == plain.metrics
    assert plain.validation == {}
    assert [(step, len(pictures)) for step, pictures in seen.validation.items()] == [(0, 2), (4, 2), (6, 2)]
    first, last = seen.validation[0], seen.validation[6]
    assert first[0] != last[0]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_the_last_pictures_are_those_that_the_generator_makes_of_the_fine_tune(
    family: str, ema_decay: float, family_studios: dict[str, Studio], cachedir: Path, tmp_path: Path
) -> None:
    studio = family_studios[family]
    # One row of a batch has the last bits of another batch size, so pictures are compared one by one.
    config = quick(family, batch_size=1, steps=2, ema_decay=ema_decay, learning_rate=1e-2)
    of = looked(studio, tmp_path / "run", cachedir, config)
    trained = train(studio, of)
    fine_tune = loaded(studio, of, trained.files["weights.safetensors"])
    for number, prompt in enumerate(PROMPTS):
        side = config.resolution
        sampling = SamplingSettings(seed=7, width=side, height=side)
        (made,) = studio.generator.generate(studio.base, fine_tune, [prompt], sampling, report=silent)
        assert trained.validation[2][number] == made


def halted(studio: Studio, of: TrainingTask, phase: str, count: int) -> None:
    """Train until the ``count``-th report of ``phase``."""
    seen: list[int] = []

    def report(progress: Progress) -> None:
        if progress.phase == phase:
            seen.append(progress.step)

    with pytest.raises(Interrupted):
        studio.trainer.train(of, report=report, stop=lambda: len(seen) >= count)


@pytest.mark.parametrize(("phase", "count"), [("validation pictures", 1), ("validation pictures", 3), ("training", 5)])
def test_a_stopped_run_goes_on_to_the_same_weights_and_pictures(
    phase: str, count: int, studio: Studio, cachedir: Path, tmp_path: Path
) -> None:
    whole = train(studio, looked(studio, tmp_path / "whole", cachedir, QUICK, batch_size=1))
    of = looked(studio, tmp_path / "halted", cachedir, QUICK, batch_size=1)
    halted(studio, of, phase, count)
    assert studio.trainer.train(of, report=silent, stop=never) == whole


def test_a_run_that_goes_on_makes_only_the_pictures_that_it_lacks(
    studio: Studio, cachedir: Path, tmp_path: Path
) -> None:
    of = looked(studio, tmp_path / "run", cachedir, QUICK)
    halted(studio, of, "training", 5)
    step = of.workdir / "looks" / "step-00000004"
    (step / "000.png").write_bytes(b"torn")
    reports: list[Progress] = []
    trained = studio.trainer.train(of, report=reports.append, stop=never)
    assert [each.step for each in reports if each.phase == "validation pictures"] == [2]
    assert list(trained.validation) == [0, 6]  # the torn look is past and gone


def judged(fidelities: Sequence[float], real_fidelity: float = 1.0) -> Scoring:
    """A judge that gives these fidelities, one after another by step, the last one from then on."""

    def score(step: int, first: Sequence[bytes], now: Sequence[bytes]) -> LookScores:
        assert len(first) == len(now) == len(SAMPLES)
        assert (list(first) == list(now)) is (step == 0)
        return LookScores(step=step, fidelity=fidelities[min(step, len(fidelities) - 1)], adherence=0.5, drift=0.0)

    return Scoring(samples=SAMPLES, score=score, real_fidelity=real_fidelity)


def choosing(
    studio: Studio, workdir: Path, cachedir: Path, fidelities: Sequence[float], method: Method = Method.PIVOTAL
) -> TrainingTask:
    config = replace(QUICK, method=method, steps=8, choose_steps=True, validation_every_steps=1)
    return replace(task(studio, workdir, config=config, cachedir=cachedir), scoring=judged(fidelities))


BEST_AT_3 = (0.0, 0.2, 0.4, 0.6, 0.5)


@pytest.mark.parametrize("method", [Method.FULL, Method.PIVOTAL])
def test_a_training_that_chooses_its_steps_gives_what_one_of_that_many_steps_gives(
    method: Method, studio: Studio, cachedir: Path, tmp_path: Path
) -> None:
    chosen = train(studio, choosing(studio, tmp_path / "chosen", cachedir, BEST_AT_3, method))
    told = task(studio, tmp_path / "told", config=replace(QUICK, method=method, steps=3), cachedir=cachedir)
    assert tensors(chosen) == tensors(train(studio, told))
    assert chosen.scored
    assert (chosen.scored.choice.step, chosen.scored.choice.ended) == (3, True)
    assert [each.fidelity for each in chosen.scored.looks] == [0.0, 0.2, 0.4, 0.6, 0.5, 0.5, 0.5]
    assert [row["step"] for row in chosen.metrics] == [1, 2, 3, 4, 5, 6]


def test_the_moving_average_of_the_best_step_is_kept(studio: Studio, cachedir: Path, tmp_path: Path) -> None:
    of = choosing(studio, tmp_path / "chosen", cachedir, BEST_AT_3)
    chosen = train(studio, replace(of, config=replace(of.config, ema_decay=0.9)))
    told = task(studio, tmp_path / "told", config=replace(QUICK, steps=3, ema_decay=0.9), cachedir=cachedir)
    assert tensors(chosen) == tensors(train(studio, told))


@pytest.fixture(
    scope="module", params=[BEST_AT_3, (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)], ids=["early", "last"]
)
def scores(request: pytest.FixtureRequest) -> Sequence[float]:
    return request.param


@pytest.fixture(scope="module")
def whole(
    scores: Sequence[float], studio: Studio, cachedir: Path, tmp_path_factory: pytest.TempPathFactory
) -> TrainedWeights:
    return train(studio, choosing(studio, tmp_path_factory.mktemp("whole"), cachedir, scores))


@pytest.mark.parametrize(("phase", "count"), [("training", 3), ("training", 5), ("validation pictures", 4)])
def test_a_stopped_training_goes_on_to_the_same_choice_and_weights(
    scores: Sequence[float],
    whole: TrainedWeights,
    phase: str,
    count: int,
    studio: Studio,
    cachedir: Path,
    tmp_path: Path,
) -> None:
    of = choosing(studio, tmp_path / "halted", cachedir, scores)
    halted(studio, of, phase, count)
    assert studio.trainer.train(of, report=silent, stop=never) == whole


def test_what_a_killed_training_had_looked_at_beyond_its_checkpoint_changes_nothing(
    scores: Sequence[float], whole: TrainedWeights, studio: Studio, cachedir: Path, tmp_path: Path
) -> None:
    of = choosing(studio, tmp_path / "killed", cachedir, scores)

    class Killed(BaseException):
        pass

    def report(progress: Progress) -> None:
        if (progress.phase, progress.step) == ("training", 6):
            raise Killed

    with pytest.raises(Killed):
        studio.trainer.train(of, report=report, stop=never)
    assert [path.name for path in (of.workdir / "checkpoints").iterdir()] == ["step-00000004"]
    assert studio.trainer.train(of, report=silent, stop=never) == whole


def test_trainings_in_a_group_look_and_choose_as_they_would_alone(
    studio: Studio, cachedir: Path, tmp_path: Path
) -> None:
    tasks = [
        looked(studio, tmp_path / "looked", cachedir, replace(QUICK, method=Method.LORA)),
        choosing(studio, tmp_path / "choosing", cachedir, BEST_AT_3),
    ]
    alone = [train(studio, replace(of, workdir=tmp_path / f"alone-{at}")) for at, of in enumerate(tasks)]
    outcomes: dict[int, TrainedWeights] = {}

    def member(at: int) -> GroupMember:
        return GroupMember(
            task=tasks[at],
            report=silent,
            stop=never,
            own=nullcontext,
            finish=lambda trained: outcomes.update({at: trained}),
            ended=lambda: at in outcomes,
        )

    studio.trainer.train_together([member(0), member(1)])
    assert [outcomes[at] for at in range(2)] == alone
