"""What fine-tunes a base, and what it takes and gives."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from packshot.domain.models import BaseModelRef
from packshot.domain.step_choice import LookScores, StepChoice
from packshot.domain.training import TrainingConfig
from packshot.domain.training_cost import Trial


@dataclass(frozen=True, kw_only=True)
class TrainingExample:
    """A reference photo as training sees it: PNG bytes, its caption, and the PNG mask of the product or None.

    The caption may name the product by its trained phrase; it never holds the public identifier.
    """

    image: bytes
    caption: str
    mask: bytes | None


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A picture to make on the way: the prompt as the model reads it, and the seed of its noise."""

    prompt: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """How a training that chooses its own steps is judged on its way.

    ``score`` takes the number of steps, the pictures of ``samples`` before the first step, and those of now.
    ``real_fidelity`` is what real photos reach among themselves.
    """

    samples: tuple[Sample, ...]
    score: Callable[[int, Sequence[bytes], Sequence[bytes]], LookScores]
    real_fidelity: float


@dataclass(frozen=True, kw_only=True)
class ScoredTraining:
    """The looks at a training by which its step was chosen, and the choice. Its weights are those of that step."""

    looks: tuple[LookScores, ...]
    real_fidelity: float
    choice: StepChoice


@dataclass(frozen=True, kw_only=True)
class TrainingTask:
    """All a trainer needs. ``workdir`` holds checkpoints and survives the process; ``cachedir`` is shared by runs.

    ``validation`` are pictures to make every ``config.validation_every_steps``; ``scoring`` is there with
    ``config.choose_steps`` and only then.
    """

    base: BaseModelRef
    examples: tuple[TrainingExample, ...]
    class_noun: str
    token: str
    trained_phrase: str
    config: TrainingConfig
    workdir: Path
    cachedir: Path
    validation: tuple[Sample, ...] = ()
    scoring: Scoring | None = None


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a training stands. ``phase`` is for people; ``loss`` is None outside the training phase itself."""

    phase: str
    step: int
    num_steps: int
    loss: float | None = None
    instance_loss: float | None = None
    prior_loss: float | None = None


@dataclass(frozen=True, kw_only=True)
class TrainedWeights:
    """What a training gives: files by name (``weights.safetensors`` always) and one metrics row per step.

    ``validation`` are the PNGs of the task's validation samples, by the number of steps behind them.
    """

    files: Mapping[str, bytes]
    metrics: tuple[Mapping[str, float], ...]
    validation: Mapping[int, tuple[bytes, ...]] = field(default_factory=dict[int, tuple[bytes, ...]])
    scored: ScoredTraining | None = None


@dataclass(frozen=True, kw_only=True)
class GroupMember:
    """A training that is carried out together with others, and ends on its own.

    Whatever is raised within ``own()`` ends it alone and goes no further; ``finish`` takes what it gives. ``ended`` is
    true from then on.
    """

    task: TrainingTask
    report: Callable[[Progress], None]
    stop: Callable[[], bool]
    own: Callable[[], AbstractContextManager[None]]
    finish: Callable[[TrainedWeights], None]
    ended: Callable[[], bool]


class Trainer(Protocol):
    """Fine-tunes a base. Implemented with torch in ``diffusion``."""

    def train(
        self, task: TrainingTask, *, report: Callable[[Progress], None], stop: Callable[[], bool]
    ) -> TrainedWeights:
        """Train, or go on from the newest complete checkpoint in ``task.workdir``.

        Raises Interrupted, with a checkpoint written, once ``stop()`` is true.
        """
        ...

    def try_out(self, base: BaseModelRef, config: TrainingConfig, class_noun: str) -> Trial:
        """Measure what a few passes take that a training with ``config`` would make; nothing is learned.

        Raises InvalidConfiguration or InvalidInput where the base cannot be trained so.
        """
        ...

    def train_together(self, members: Sequence[GroupMember]) -> None:
        """Train tasks of one base, whose configurations go together, until all have ended; each as ``train`` would.

        A member that fails, or whose ``stop()`` is true, ends alone. What is raised here is the fault of none.
        """
        ...
