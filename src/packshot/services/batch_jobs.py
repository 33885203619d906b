"""Batches as jobs: the worker's side, which makes their pictures portion by portion."""

from packshot.domain.batches import Batch, portions
from packshot.domain.errors import Interrupted, JobFailed, PackshotError
from packshot.domain.jobs import Job
from packshot.imaging.recipe import Inscribe, with_recipe
from packshot.ports import Blobs, Generator, Progress, Records
from packshot.services.batches import NOT_OF_THE_ITEM, ItemState, failed_item, failures_of, items_of
from packshot.services.generation import make_images
from packshot.services.jobs import ReportProgress, Stop
from packshot.services.prompts import resolved_again


def run_batch(
    job: Job,
    records: Records,
    blobs: Blobs,
    generator: Generator,
    *,
    inscribe: Inscribe = with_recipe,
    report: ReportProgress,
    stop: Stop,
) -> None:
    """Make what is missing of the pictures of ``job``, each exactly once, however often it is tried.

    Raises:
        Interrupted: ``stop()`` became true; what was made is kept.
        StaleAttempt: another worker took over, or the job was canceled.
        JobFailed: not one picture could be made.
    """
    batch = records.get(Batch, job.subject_id)
    items = items_of(records, batch)
    each = batch.sampling.num_images
    total = len(items) * each
    done = 0
    for state in items:
        made = {image.number for image in state.images}
        for portion in portions(each) if state.generation and not state.failure else ():
            if stop():
                raise Interrupted(f"stopped after picture {done} of {total}")
            if not made.issuperset(portion) and not _make(
                records, blobs, generator, job, state, portion, _relayed(report, stop, done, total), inscribe
            ):
                break
            done += len(portion)
        done = (state.item.number + 1) * each
        report(Progress(phase="pictures", step=done, num_steps=total))
    items = items_of(records, batch)
    if not any(state.images for state in items):
        failed = failures_of(items)
        raise JobFailed(f"none of its {len(items)} items could be made; the first: {failed[0].message}")


def _make(
    records: Records,
    blobs: Blobs,
    generator: Generator,
    job: Job,
    state: ItemState,
    portion: range,
    report: ReportProgress,
    inscribe: Inscribe,
) -> bool:
    """Make and record the pictures of ``portion``; or record why not, and return False."""
    assert state.generation
    try:
        resolved = resolved_again(records, state.generation)
        images = make_images(records, blobs, generator, state.generation, resolved, report, inscribe, numbers=portion)
    except NOT_OF_THE_ITEM:
        raise
    except PackshotError as error:
        with records.transaction(fence=(job.id, job.attempt)):
            records.add(failed_item(state.item, error))
        return False
    with records.transaction(fence=(job.id, job.attempt)):
        records.add(*images)
    return True


def _relayed(report: ReportProgress, stop: Stop, done: int, total: int) -> ReportProgress:
    """Progress of the batch, told when the model tells of a portion; the place where a stop is noticed."""

    def relay(progress: Progress) -> None:
        report(Progress(phase="pictures", step=done, num_steps=total))
        if stop():
            raise Interrupted(f"stopped after picture {done} of {total}, at step {progress.step}")

    return relay
