"""A workspace in memory, with the fakes behind every port."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fake_models import ColourJudge, FakeBaseModels, FakeGenerator, FakeTrainer
from fakes import InMemoryBlobs, InMemoryRecords

from packshot.domain.catalog import Category
from packshot.domain.jobs import Job, JobKind
from packshot.domain.models import BaseModelRef, FineTune
from packshot.domain.references import Rights
from packshot.domain.training import TrainingConfig
from packshot.imaging.folders import read_photos
from packshot.services.batch_jobs import run_batch
from packshot.services.catalog import add_category
from packshot.services.generation import run_generation
from packshot.services.jobs import Handler, ReportProgress, Stop, check_succeeded, work_on_one
from packshot.services.models import register_base
from packshot.services.references import add_references, freeze_references
from packshot.services.training import PlannedTraining, fine_tune_of, plan_training, run_training, sweep_checkpoints

RIGHTS = Rights(source="our studio", license="CC0-1.0")


@dataclass
class Space:
    """The ports with their fakes, and the ways through them that many tests begin with."""

    folder: Path
    photos: Callable[..., Path]
    records: InMemoryRecords = field(default_factory=InMemoryRecords)
    blobs: InMemoryBlobs = field(default_factory=InMemoryBlobs)
    bases: FakeBaseModels = field(default_factory=FakeBaseModels)
    trainer: FakeTrainer = field(default_factory=FakeTrainer)
    generator: FakeGenerator = field(default_factory=FakeGenerator)
    judge: ColourJudge = field(default_factory=ColourJudge)
    code_revision: str = "0.1.0+git.abc"

    @property
    def handlers(self) -> dict[JobKind, Handler]:
        def train(job: Job, report: ReportProgress, stop: Stop) -> None:
            self.train(job, report, stop)

        def generate(job: Job, report: ReportProgress, stop: Stop) -> None:
            run_generation(job, self.records, self.blobs, self.generator, report=report, stop=stop)

        def make_batch(job: Job, report: ReportProgress, stop: Stop) -> None:
            run_batch(job, self.records, self.blobs, self.generator, report=report, stop=stop)

        return {JobKind.TRAINING: train, JobKind.GENERATION: generate, JobKind.BATCH: make_batch}

    def train(self, job: Job, report: ReportProgress, stop: Stop) -> FineTune:
        return run_training(
            job,
            self.records,
            self.blobs,
            self.trainer,
            code_revision=self.code_revision,
            workdir=self.folder / "runs",
            cachedir=self.folder / "cache",
            report=report,
            stop=stop,
            judge=lambda: self.judge,
        )

    def tidy(self) -> None:
        sweep_checkpoints(self.records, self.folder / "runs")

    def base(self, source: str = "embedded") -> BaseModelRef:
        return register_base(self.records, self.bases.describe(source))

    def category(self, variety: str = "fuji", num_photos: int = 5, **photos: object) -> Category:
        """A category with that many photos; frozen where they are enough."""
        category = add_category(self.records, path=f"produce/apple/{variety}", class_noun="apple")
        if num_photos:
            folder = self.photos(num_photos, name=variety, **photos)
            add_references(self.records, self.blobs, category, read_photos([folder]), RIGHTS)
        if num_photos >= 5:
            freeze_references(self.records, category)
        return category

    def plan(self, category: Category, **config: object) -> PlannedTraining:
        settings = TrainingConfig(**{"steps": 3, **config})  # type: ignore[arg-type]
        return plan_training(self.records, category, self.base(), settings, self.code_revision)

    def fine_tune(self, category: Category, **config: object) -> FineTune:
        plan = self.plan(category, **config)
        job = work_on_one(self.records, self.handlers, job_id=plan.job.id)
        assert job
        check_succeeded(job)
        return fine_tune_of(self.records, plan.run)


@pytest.fixture
def space(tmp_path: Path, photo_folder: Callable[..., Path]) -> Space:
    return Space(folder=tmp_path, photos=photo_folder)
