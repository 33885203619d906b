"""Looks at a training on its way: pictures with what was learned so far, and the choice of its best step by them.

A look is a folder that is whole or absent, so that a run which goes on makes again only what it lacks. Knows no method,
and neither how pictures are scored nor when a score is good enough.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from packshot.diffusion.course import Course
from packshot.diffusion.durable import write_folder
from packshot.diffusion.protocols import Family
from packshot.diffusion.sampling import Encode, Passing, sample
from packshot.domain.errors import WorkspaceUnusable
from packshot.domain.generation import SamplingSettings
from packshot.domain.step_choice import LookScores, choose_step
from packshot.domain.training import TrainingConfig
from packshot.domain.training_cost import LOOK_INFERENCE_STEPS
from packshot.ports import Progress, Sample, ScoredTraining, Scoring

PHASE = "validation pictures"

_ABOUT, _WEIGHTS = "look.json", "weights"


@dataclass(frozen=True, kw_only=True)
class Look:
    """The pictures of one step, with their scores where there are any."""

    pictures: tuple[bytes, ...]
    scores: LookScores | None


@dataclass(frozen=True, kw_only=True)
class Looks:
    """The looks at one run, in ``folder``. ``encode`` and ``passing`` see to it that its parameters are in the base.

    ``weights`` gives the bytes of what a course has learned.
    """

    folder: Path
    base: Family
    encode: Encode
    passing: Passing
    config: TrainingConfig
    validation: Sequence[Sample]
    scoring: Scoring | None
    weights: Callable[[Course], bytes]

    def look(self, course: Course, report: Callable[[Progress], None], stop: Callable[[], bool]) -> None:
        """Make the look that is due at the course's step, unless it is there; end the course where that says so.

        Raises:
            Interrupted: ``stop()`` became true; a checkpoint of the last whole step is written.
            JudgeUnusable: the pictures cannot be scored.
            WorkspaceUnusable: it cannot be written, or an earlier one is gone.
        """
        if not self._samples or not self._due(course.step):
            return
        if self._read(course.step) is None:
            with course.learned_in_place():
                pictures = self._make(report, lambda: course.check(stop))
            self._write(course.step, pictures)
        if self.scoring:
            self._choose(self.scoring, course)

    def pictures(self, course: Course) -> Mapping[int, tuple[bytes, ...]]:
        """The validation pictures of every look at ``course``, by step."""
        if not self.validation:
            return {}
        looks = {step: self._read(step) for step in range(course.step + 1) if self._due(step)}
        return {step: look.pictures[: len(self.validation)] for step, look in looks.items() if look}

    def scored(self, course: Course) -> ScoredTraining | None:
        """How the best step was chosen, where that was asked for."""
        if self.scoring is None:
            return None
        looks = self._scores_until(course.step)
        choice = choose_step(looks, self.scoring.real_fidelity, self.config.steps)
        return ScoredTraining(looks=looks, real_fidelity=self.scoring.real_fidelity, choice=choice)

    def best_weights(self, step: int) -> bytes:
        """The bytes of what was learned by ``step``, the best so far."""
        return (self._best(step) / _WEIGHTS).read_bytes()

    @property
    def _samples(self) -> Sequence[Sample]:
        return [*self.validation, *(self.scoring.samples if self.scoring else ())]

    def _due(self, step: int) -> bool:
        return step % self.config.validation_every_steps == 0 or step == self.config.steps

    def _choose(self, scoring: Scoring, course: Course) -> None:
        """Keep what is learned where this is the best look; the one before goes when no resumption can need it."""
        choice = choose_step(self._scores_until(course.step), scoring.real_fidelity, self.config.steps)
        if choice.step == course.step > 0:
            write_folder(self._best(course.step), {_WEIGHTS: self.weights(course)})
        if course.saved >= choice.step:
            for path in self.folder.glob("best-*"):
                if path < self._best(choice.step):
                    shutil.rmtree(path, ignore_errors=True)
        if choice.ended:
            course.end()

    def _scores_until(self, step: int) -> tuple[LookScores, ...]:
        looks = [(each, self._read(each)) for each in range(step + 1) if self._due(each)]
        lost = [each for each, look in looks if look is None or look.scores is None]
        if lost:
            raise WorkspaceUnusable(
                f"the look at step {lost[0]} is gone from {self.folder}, so the steps cannot be chosen; train anew"
            )
        return tuple(look.scores for _, look in looks if look and look.scores)

    def _make(self, report: Callable[[Progress], None], check_stop: Callable[[], None]) -> list[bytes]:
        """The pictures of a look, no more at a time than a batch of the training has."""
        side = self.config.resolution or self.base.resolution
        settings = SamplingSettings(inference_steps=LOOK_INFERENCE_STEPS, width=side, height=side)
        samples, pictures = self._samples, list[bytes]()
        for first in range(0, len(samples), self.config.batch_size):
            some = samples[first : first + self.config.batch_size]
            pictures += sample(self.base, self.encode, self.passing, some, settings, check_stop)
            report(Progress(phase=PHASE, step=len(pictures), num_steps=len(samples)))
        return pictures

    def _write(self, step: int, pictures: Sequence[bytes]) -> None:
        files = {f"{number:03d}.png": picture for number, picture in enumerate(pictures)}
        digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        scores = self._score(self.scoring, step, pictures) if self.scoring else None
        about = {"sha256": digests, "scores": asdict(scores) if scores else None}
        write_folder(self._path(step), {**files, _ABOUT: json.dumps(about).encode()})

    def _score(self, scoring: Scoring, step: int, pictures: Sequence[bytes]) -> LookScores:
        """Scores of a look's pictures, beside those of the first look."""
        first = self._read(0)
        if step and first is None:
            raise WorkspaceUnusable(f"the look at step 0 is gone from {self.folder}; train anew")
        others = len(self.validation)
        return scoring.score(step, (first.pictures if first else pictures)[others:], pictures[others:])

    def _read(self, step: int) -> Look | None:
        """A look, or None where there is none; a damaged one is removed, to be made anew."""
        path = self._path(step)
        if not path.is_dir():
            return None
        try:
            about = json.loads((path / _ABOUT).read_bytes())
            files = {name: (path / name).read_bytes() for name in about["sha256"]}
            whole = all(hashlib.sha256(data).hexdigest() == about["sha256"][name] for name, data in files.items())
            scores = LookScores(**about["scores"]) if about["scores"] else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            whole, files, scores = False, {}, None
        if not whole:
            shutil.rmtree(path)
            return None
        return Look(pictures=tuple(files.values()), scores=scores)

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def _best(self, step: int) -> Path:
        return self.folder / f"best-{step:08d}"
