"""What a worker does for each kind of job."""

from typing import TYPE_CHECKING

from packshot.bootstrap.revision import code_revision
from packshot.domain.jobs import JobKind
from packshot.services.jobs import GroupHandler, Handler

if TYPE_CHECKING:
    from packshot.bootstrap.workspace import Workspace


def job_handlers(space: "Workspace") -> dict[JobKind, Handler]:
    """What a worker does for each kind of job."""
    from packshot.services.batch_jobs import run_batch
    from packshot.services.evaluation_jobs import run_evaluation
    from packshot.services.foreign import run_foreign_generation
    from packshot.services.generation import run_generation
    from packshot.services.training import run_training

    inscribe = space.inscribe

    def train(job, report, stop) -> None:  # type: ignore[no-untyped-def]
        run_training(
            job,
            space.records,
            space.blobs,
            space.trainer,
            code_revision=code_revision(),
            workdir=space.runs,
            cachedir=space.home / "cache",
            report=report,
            stop=stop,
            judge=lambda: space.judge,
        )

    def generate(job, report, stop) -> None:  # type: ignore[no-untyped-def]
        run_generation(job, space.records, space.blobs, space.generator, inscribe=inscribe, report=report, stop=stop)

    def have_generated(job, report, stop) -> None:  # type: ignore[no-untyped-def]
        run_foreign_generation(
            job, space.records, space.blobs, space.foreign_generator, inscribe=inscribe, report=report, stop=stop
        )

    def make_batch(job, report, stop) -> None:  # type: ignore[no-untyped-def]
        run_batch(job, space.records, space.blobs, space.generator, inscribe=inscribe, report=report, stop=stop)

    def evaluate(job, report, stop) -> None:  # type: ignore[no-untyped-def]
        run_evaluation(job, space.records, space.blobs, space.generator, space.judge, report=report, stop=stop)

    return {
        JobKind.TRAINING: train,
        JobKind.GENERATION: generate,
        JobKind.FOREIGN_GENERATION: have_generated,
        JobKind.BATCH: make_batch,
        JobKind.EVALUATION: evaluate,
    }


def group_handler(space: "Workspace") -> GroupHandler:
    """What a worker does for several trainings that go together."""
    from packshot.services.training_groups import run_trainings

    def train(held) -> None:  # type: ignore[no-untyped-def]
        run_trainings(
            held,
            space.records,
            space.blobs,
            space.trainer,
            code_revision=code_revision(),
            workdir=space.runs,
            cachedir=space.home / "cache",
            judge=lambda: space.judge,
        )

    return train
