"""Trainings in one group: each gets, to the bit, what it would have got alone."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures_families import FAMILIES, quick
from fixtures_pipelines import QUICK, Studio, base_state, half_mask, png, task, train
from safetensors.torch import load

from packshot.diffusion.trainer import DiffusersTrainer
from packshot.domain.errors import Interrupted, InvalidConfiguration
from packshot.domain.training import TrainingConfig
from packshot.domain.training_choices import LossTarget, Method, Targets
from packshot.ports import GroupMember, Progress, TrainedWeights, TrainingExample, TrainingTask

GROUPED = [method for method in Method if method is not Method.FULL]


@dataclass
class Entrant:
    """A member with what became of it."""

    task: TrainingTask
    stop: Callable[[], bool] = lambda: False
    reported: list[Progress] = field(default_factory=list)
    outcome: TrainedWeights | Exception | None = None

    @contextmanager
    def own(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - as the job runner does
            self.outcome = error

    def finish(self, trained: TrainedWeights) -> None:
        self.outcome = trained

    @property
    def steps(self) -> list[int]:
        return [each.step for each in self.reported if each.phase == "training"]

    @property
    def member(self) -> GroupMember:
        return GroupMember(
            task=self.task,
            report=self.reported.append,
            stop=self.stop,
            own=self.own,
            finish=self.finish,
            ended=lambda: self.outcome is not None,
        )


def together(studio: Studio, entrants: Sequence[Entrant], *, group_samples: int = 1000) -> list[Any]:
    trainer = DiffusersTrainer(studio.bases, studio.generator, group_samples=group_samples)
    trainer.train_together([each.member for each in entrants])
    return [each.outcome for each in entrants]


def token(number: int) -> str:
    return f"<packshot-{number:012d}>"


@dataclass(frozen=True)
class Group:
    """Tasks of several categories on one base, for training alone and together."""

    studio: Studio
    folder: Path
    cachedir: Path
    configs: Sequence[TrainingConfig]
    photos: Callable[[int], tuple[TrainingExample, ...]]

    def tasks(self, name: str) -> list[TrainingTask]:
        return [
            task(
                self.studio,
                self.folder / name / str(number),
                config=config,
                token=token(number),
                photos=self.photos(number),
                cachedir=self.cachedir,
            )
            for number, config in enumerate(self.configs)
        ]

    def alone(self) -> list[TrainedWeights]:
        return [train(self.studio, each) for each in self.tasks("alone")]

    def together(self, **options: Any) -> list[Any]:
        return together(self.studio, [Entrant(each) for each in self.tasks("together")], **options)


def photos_of(number: int) -> tuple[TrainingExample, ...]:
    captions = ["", "an apple on a", "two apples", "on grass"]
    return tuple(
        TrainingExample(image=png(10 * number + at), caption=captions[at % 4], mask=half_mask() if at % 2 else None)
        for at in range(3 + number % 3)
    )


def check_equal(alone: Sequence[TrainedWeights], found: Sequence[Any]) -> None:
    for solo, grouped in zip(alone, found, strict=True):
        assert isinstance(grouped, TrainedWeights), grouped
        expected, tensors = (load(each.files["weights.safetensors"]) for each in (solo, grouped))
        assert sorted(tensors) == sorted(expected)
        apart = {
            name: ((tensors[name] - tensor).norm() / tensor.norm()).item()
            for name, tensor in expected.items()
            if not torch.equal(tensors[name], tensor)
        }
        assert not apart
        assert grouped == solo


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_slot_gets_the_weights_of_a_training_alone(
    family: str, text: bool, family_studios: dict[str, Studio], cachedir: Path, tmp_path: Path
) -> None:
    config = quick(
        family,
        method=Method.LORA,
        train_text_encoder=text,
        background_weight=0.25,
        caption_dropout=0.3,
        prior_weight=0.7,
        noise_offset=0.1,
    )
    configs = [replace(config, seed=seed) for seed in (0, 1, 0)]
    group = Group(family_studios[family], tmp_path, cachedir, configs, photos_of)
    before = base_state(group.studio)
    found = group.together()
    assert base_state(group.studio) == before
    check_equal(group.alone(), found)


@pytest.fixture
def mixed(studio: Studio, cachedir: Path, tmp_path: Path) -> Group:
    """Four methods, with other ranks, lengths and batches: what goes together need not be alike."""
    changes: list[dict[str, Any]] = [
        {"method": Method.PIVOTAL, "train_text_encoder": True, "ema_decay": 0.9},
        {"method": Method.TEXTUAL_INVERSION, "num_vectors": 2, "steps": 4, "caption_dropout": 0.5},
        {"method": Method.HYPERNETWORK, "rank": 3, "batch_size": 1, "prior_weight": 0.0},
        {
            "method": Method.LORA,
            "targets": Targets.ATTENTION,
            "aspect_ratio_buckets": True,
            "seed": 3,
            "prior_target": LossTarget.BASE,
            "background_target": LossTarget.BASE,
        },
    ]
    return Group(studio, tmp_path, cachedir, [replace(QUICK, **each) for each in changes], photos_of)


def test_methods_ranks_lengths_and_shapes_mix_however_few_pass_the_base_at_once(mixed: Group) -> None:
    alone = mixed.alone()
    check_equal(alone, mixed.together())
    again = [Entrant(each) for each in mixed.tasks("in parts")]
    check_equal(alone, together(mixed.studio, again, group_samples=5))
    assert [each.steps for each in again] == [list(range(1, config.steps + 1)) for config in mixed.configs]


def stopping_after(step: int, tasks: Sequence[TrainingTask]) -> list[Entrant]:
    entrants = [Entrant(each) for each in tasks]
    for each in entrants:
        each.stop = lambda each=each: bool(each.steps) and each.steps[-1] >= step
    return entrants


def test_an_interrupted_group_goes_on_in_whatever_company_to_the_same_weights(mixed: Group) -> None:
    alone = mixed.alone()
    tasks = mixed.tasks("halted")
    outcomes = together(mixed.studio, stopping_after(2, tasks[:2])) + together(
        mixed.studio, stopping_after(3, tasks[2:])
    )
    assert all(isinstance(each, Interrupted) for each in outcomes)
    before = base_state(mixed.studio)
    resumed = [Entrant(each) for each in (tasks[2], tasks[0], tasks[3])]
    found = together(mixed.studio, resumed)
    assert base_state(mixed.studio) == before
    assert [each.steps[0] for each in resumed] == [4, 3, 4]
    check_equal([alone[2], alone[0], alone[3]], found)
    check_equal([alone[1]], [train(mixed.studio, tasks[1])])


def test_one_that_fails_ends_alone(
    studio: Studio, cachedir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(QUICK, method=Method.LORA, num_class_images=2)
    group = Group(studio, tmp_path, cachedir, [config] * 4, photos_of)
    alone = train(studio, group.tasks("alone")[0])
    first, diverging, known, unreadable = (Entrant(each) for each in group.tasks("together"))
    known.task = replace(known.task, token="a")
    unreadable.task = replace(unreadable.task, examples=(replace(unreadable.task.examples[0], image=b"no picture"),))
    with studio.bases.borrow(studio.base) as base:
        plain = base.target

        def target(*tensors: torch.Tensor) -> torch.Tensor:
            aims = plain(*tensors).clone()
            aims[4:] = torch.inf  # the first has four rows, and the second those behind them
            return aims

        monkeypatch.setattr(base, "target", target)
        found = together(studio, [first, diverging, known, unreadable])
    check_equal([alone], found[:1])
    assert isinstance(diverging.outcome, InvalidConfiguration)
    assert "diverged at step 1" in str(diverging.outcome)
    assert isinstance(known.outcome, InvalidConfiguration)
    assert isinstance(unreadable.outcome, Exception)
    assert not any(each.steps for each in (diverging, known, unreadable))


def test_class_images_are_made_and_encoded_once(studio: Studio, tmp_path: Path) -> None:
    config = replace(QUICK, method=Method.LORA, steps=1)
    entrants = [
        Entrant(each) for each in Group(studio, tmp_path, tmp_path / "cache", [config] * 3, photos_of).tasks("group")
    ]
    together(studio, entrants)
    phases = [[each.phase for each in entrant.reported] for entrant in entrants]
    assert ["class images" in each for each in phases] == [True, False, False]
    encoded = [each.count("encoding") for each in phases]
    assert encoded == [len(entrants[0].task.examples) + config.num_class_images, 4, 5]
