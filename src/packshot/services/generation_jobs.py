"""Requests for pictures as jobs, whoever makes them: queue one, carry it out exactly once, keep what was made."""

from collections.abc import Callable, Mapping, Sequence

from packshot.domain.errors import Interrupted
from packshot.domain.generation import GeneratedImage, Generation
from packshot.domain.jobs import Job, JobKind
from packshot.imaging.recipe import Inscribe
from packshot.ports import Blobs, Progress, Records
from packshot.services.catalog import new_id, now
from packshot.services.jobs import ReportProgress, Stop

Recipe = Mapping[str, str | int | float]


def queue_generation(records: Records, generation: Generation, kind: JobKind, priority: int) -> Generation:
    """Record ``generation`` with the job that it names."""
    assert generation.job_id
    job = Job(
        id=generation.job_id,
        kind=kind,
        subject_id=generation.id,
        namespace=generation.namespace,
        priority=priority,
        created_at=now(),
    )
    records.add(job, generation)
    return generation


def carry_out(
    job: Job,
    records: Records,
    make: Callable[[Generation, ReportProgress], list[GeneratedImage]],
    *,
    report: ReportProgress,
    stop: Stop,
) -> list[GeneratedImage]:
    """The pictures of ``job``, made with ``make`` and recorded exactly once, however often it is tried.

    Raises:
        Interrupted: ``stop()`` became true.
        StaleAttempt: another worker took over, or the job was canceled; nothing was recorded.
    """
    generation = records.get(Generation, job.subject_id)
    known = records.find(GeneratedImage, generation_id=generation.id)
    if known:
        return known

    def checked(progress: Progress) -> None:
        report(progress)
        if stop():
            raise Interrupted(f"stopped after {progress.step} of {progress.num_steps}")

    images = make(generation, checked)
    with records.transaction(fence=(job.id, job.attempt)):
        records.add(*images)
    return images


def keep_pictures(
    blobs: Blobs,
    generation: Generation,
    pngs: Sequence[bytes],
    inscribe: Inscribe,
    *,
    numbers: range,
    made_of: Callable[[int], tuple[int | None, Recipe]],
) -> list[GeneratedImage]:
    """The pictures ``numbers`` of ``generation``, stored with their recipes, not recorded yet.

    ``made_of`` gives the seed, where the model was told one, and the recipe of a picture.
    """
    images: list[GeneratedImage] = []
    for number, png in zip(numbers, pngs, strict=True):
        seed, recipe = made_of(number)
        sha256 = blobs.put(inscribe(png, recipe))
        images.append(
            GeneratedImage(id=new_id("img"), generation_id=generation.id, number=number, seed=seed, sha256=sha256)
        )
    return images
