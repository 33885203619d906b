"""Trainer, Generator, BaseModels and Judge behind the ports, for unit tests of services: no torch, all by colour.

A fake fine-tune has learnt the mean colour of its photos; pictures of its phrase have that colour, every other picture
is grey. The fake judge sees nothing but colour.
"""

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np
from PIL import Image

from packshot.domain.errors import BaseModelRefused, IncompatibleFineTune, Interrupted
from packshot.domain.evaluation import Embedding
from packshot.domain.generation import SamplingSettings
from packshot.domain.models import BaseModelRef
from packshot.domain.step_choice import choose_step
from packshot.domain.training import TrainingConfig
from packshot.domain.training_cost import Trial
from packshot.ports import (
    GroupMember,
    LoadedFineTune,
    LoadedSubject,
    Progress,
    ScoredTraining,
    Scoring,
    TrainedWeights,
    TrainingTask,
)

Colour = tuple[int, int, int]
GREY: Colour = (128, 128, 128)


def noisy_png(colour: Colour, seed: int, edge: int = 32) -> bytes:
    """A square of ``colour`` with a little noise that depends on ``seed``."""
    noise = np.random.default_rng(seed).integers(-20, 21, (edge, edge, 3))
    pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def mean_colour(png: bytes) -> Colour:
    with Image.open(io.BytesIO(png)) as image:
        red, green, blue = np.asarray(image.convert("RGB"), dtype=float).mean(axis=(0, 1)).round().astype(int).tolist()
    return red, green, blue


def seed_of(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big")


TRIAL = Trial(
    resident_bytes=1_000_000,
    base_parameters=200_000,
    learning_parameters=1000,
    activation_bytes=50_000,
    step_seconds=0.1,
    forward_seconds=0.01,
    encode_seconds=0.02,
    decode_seconds=0.03,
    guided_rows=2,
    on_processor=True,
)


@dataclass
class FakeTrainer:
    """Counts its steps on disk, as a checkpoint does; ``before_step`` lets a test act in the middle of a training.

    Where it is ``misled``, its fine-tunes have learnt the complement of that colour.
    """

    before_step: Callable[[int], None] = lambda _: None
    misled: bool = False
    tasks: list[TrainingTask] = field(default_factory=list)
    groups: list[list[str]] = field(default_factory=list)

    def train(
        self, task: TrainingTask, *, report: Callable[[Progress], None], stop: Callable[[], bool]
    ) -> TrainedWeights:
        self.tasks.append(task)
        task.workdir.mkdir(parents=True, exist_ok=True)
        checkpoint = task.workdir / "step"
        done = int(checkpoint.read_text()) if checkpoint.exists() else 0
        for step in range(done + 1, task.config.steps + 1):
            self.before_step(step)
            if stop():
                raise Interrupted(f"stopped after step {step - 1} of {task.config.steps}")
            checkpoint.write_text(str(step))
            report(Progress(phase="training", step=step, num_steps=task.config.steps, loss=1 / step))
        colours = np.array([mean_colour(example.image) for example in task.examples])
        mean = colours.mean(axis=0).round().astype(int)
        learnt = {
            "colour": (255 - mean if self.misled else mean).tolist(),
            "seed": task.config.seed,
            "phrase": task.trained_phrase,
            "base": task.base.digest,
        }
        metrics = tuple({"step": float(step), "loss": 1 / step} for step in range(1, task.config.steps + 1))
        return TrainedWeights(
            files={"weights.safetensors": json.dumps(learnt).encode()},
            metrics=metrics,
            validation={
                step: tuple(noisy_png(GREY, seed_of(step, each)) for each in task.validation)
                for step in (0, task.config.steps)
                if task.validation
            },
            scored=self._scored(task, task.scoring, learnt["colour"]) if task.scoring else None,
        )

    def _scored(self, task: TrainingTask, scoring: Scoring, colour: Colour) -> ScoredTraining:
        """Looks at the base, which is grey, and at what was learnt."""
        first = [noisy_png(GREY, each.seed) for each in scoring.samples]
        now = [
            noisy_png(tuple(colour) if task.trained_phrase in each.prompt else GREY, each.seed)
            for each in scoring.samples
        ]
        looks = (scoring.score(0, first, first), scoring.score(task.config.steps, first, now))
        choice = choose_step(looks, scoring.real_fidelity, task.config.steps)
        return ScoredTraining(looks=looks, real_fidelity=scoring.real_fidelity, choice=choice)

    def try_out(self, base: BaseModelRef, config: TrainingConfig, class_noun: str) -> Trial:
        del base, config, class_noun
        return TRIAL

    def train_together(self, members: Sequence[GroupMember]) -> None:
        self.groups.append([member.task.trained_phrase for member in members])
        for member in members:
            with member.own():
                member.finish(self.train(member.task, report=member.report, stop=member.stop))


@dataclass
class FakeGenerator:
    """Pictures by prompt and seed; ``failure`` is raised instead where it is given."""

    failure: Exception | None = None
    prompts: list[str] = field(default_factory=list)
    subjects: list[LoadedSubject] = field(default_factory=list)
    layouts: list[bytes | None] = field(default_factory=list)

    def generate(
        self,
        base: BaseModelRef,
        fine_tune: LoadedFineTune | None,
        prompts: Sequence[str],
        sampling: SamplingSettings,
        *,
        report: Callable[[Progress], None],
        caller: str = "",
        layout: bytes | None = None,
        subjects: Sequence[LoadedSubject] = (),
    ) -> list[bytes]:
        del caller
        self.layouts.append(layout)
        if self.failure:
            raise self.failure
        self.subjects += subjects
        self.prompts += prompts
        learnt = json.loads(fine_tune.read()) if fine_tune else {"phrase": None, "base": base.digest}
        if learnt["base"] != base.digest:
            raise IncompatibleFineTune("the fine-tune was trained on another base")
        pictures: list[bytes] = []
        for prompt in prompts:
            subject = learnt["phrase"] is not None and learnt["phrase"] in prompt
            colour = tuple(learnt["colour"]) if subject else GREY
            for number in range(sampling.num_images):
                pictures.append(noisy_png(colour, seed_of(prompt, sampling.seed + number, base.digest)))
                report(Progress(phase="pictures", step=len(pictures), num_steps=len(prompts) * sampling.num_images))
        return pictures


class FakeBaseModels:
    """Every source but ``broken`` is a base; its digest is the hash of its name and revision."""

    def describe(self, source: str, revision: str = "") -> BaseModelRef:
        if source == "broken":
            raise BaseModelRefused("broken has no UNet")
        digest = hashlib.sha256(f"{source}@{revision}".encode()).hexdigest()
        return BaseModelRef(
            id=f"base_{digest[:8]}",
            source=source,
            revision=revision,
            digest=digest,
            family="stable-diffusion",
            resolution=128,
            registered_at=datetime.now(UTC),
        )

    def prediction_type(self, base: BaseModelRef) -> str | None:
        del base
        return "epsilon"


@dataclass
class ColourJudge:
    """Embeds the mean colour, with a constant so that grey is a direction too; ``adherences`` is one number for all."""

    digest: str = "colour-judge-1"
    adherences: float = 0.3

    def embed(self, images: Sequence[bytes], masks: Sequence[bytes | None]) -> list[Embedding]:
        assert len(images) == len(masks)
        embeddings: list[Embedding] = []
        for png in images:
            vector = np.array([*(np.array(mean_colour(png)) - 128) / 128, 0.2])
            embeddings.append(tuple((vector / np.linalg.norm(vector)).tolist()))
        return embeddings

    def adherence(self, images: Sequence[bytes], prompts: Sequence[str]) -> list[float]:
        """The same for every picture, but lower for one that is not mostly of a colour that the prompt names."""
        assert len(images) == len(prompts)
        return [self._adherence(png, prompt) for png, prompt in zip(images, prompts, strict=True)]

    def _adherence(self, png: bytes, prompt: str) -> float:
        colours = dict(zip(("red", "green", "blue"), mean_colour(png), strict=True))
        named = [name for name in colours if name in prompt.split()]
        return self.adherences - 0.1 * (named not in ([], [max(colours, key=lambda name: colours[name])]))


def renamed(base: BaseModelRef, source: str) -> BaseModelRef:
    """The same weights under another source."""
    return replace(base, id=f"{base.id}_{source}", source=source)
