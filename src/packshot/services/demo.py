"""The whole way on one category, as a newcomer sees it: photos in, pictures of that very product out."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from packshot.domain.catalog import Category
from packshot.domain.errors import Conflict, InvalidInput, NotFound, PackshotError, ReferenceSetRefused
from packshot.domain.evaluation import Evaluation, Outcome
from packshot.domain.jobs import Job, JobKind
from packshot.domain.models import BaseModelRef, FineTune
from packshot.domain.references import Rights
from packshot.domain.training import TrainingConfig
from packshot.imaging.folders import Photo, read_photos
from packshot.ports import Blobs, Generator, Judge, Records
from packshot.services.catalog import add_category, category_at
from packshot.services.evaluation import Suite, evaluate
from packshot.services.jobs import Handler, ReportProgress, Stop, Tidy, check_succeeded, see_through
from packshot.services.models import promote
from packshot.services.references import add_references, freeze_references
from packshot.services.training import fine_tune_of, plan_training

NUM_PHOTOS = 15  # of which one in five is held out: twelve to learn from


@dataclass(frozen=True, kw_only=True)
class DemoCategory:
    """A category of the demo before it exists: where its photos lie, and what they show."""

    path: str
    class_noun: str
    folder: Path
    rights: Rights


@dataclass(frozen=True, kw_only=True)
class DemoModels:
    """The ports and parents that the demo works with."""

    records: Records
    blobs: Blobs
    generator: Generator
    judge: Judge
    base: BaseModelRef
    handlers: Mapping[JobKind, Handler]
    tidy: Tidy
    lease: timedelta
    code_revision: str
    namespace: str


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """What a demo made. ``promoted`` is false where the gate rejected the fine-tune: what served before still does."""

    category: Category
    fine_tune: FineTune
    evaluation: Evaluation
    promoted: bool


def sample_categories(catalog: Path) -> list[DemoCategory]:
    """The bundled sample catalog: ``department/class/variety`` folders."""
    rights = Rights(source="rendered by recipes/embedded", license="Apache-2.0")
    folders = sorted(path for path in catalog.glob("*/*/*") if path.is_dir())
    return [
        DemoCategory(
            path=folder.relative_to(catalog).as_posix(),
            class_noun=folder.parent.name.replace("-", " "),
            folder=folder,
            rights=rights,
        )
        for folder in folders
    ]


def photo_categories(folder: Path, class_noun: str) -> list[DemoCategory]:
    """The category of the photos in ``folder`` first, then its sibling folders as rivals of the same class.

    Raises:
        InvalidInput: ``folder`` is no folder.
    """
    folder = folder.absolute()
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is not a folder of photos")
    siblings = sorted(each for each in folder.parent.iterdir() if each.is_dir() and each != folder)
    return [
        DemoCategory(
            path=f"photos/{class_noun.replace(' ', '-')}/{each.name.lower().replace('_', '-')}",
            class_noun=class_noun,
            folder=each,
            rights=Rights(source=str(each)),
        )
        for each in [folder, *siblings]
    ]


def take_in(models: DemoModels, wanted: DemoCategory) -> Category:
    """Add the category, its photos and a frozen set, unless they are there.

    Where there are many photos the choice is the same each time, whatever the training's seed, so that demos with
    several seeds do not heap up photos.

    Raises:
        InvalidInput: the folder's name makes no path, or it holds no pictures; nothing was added.
        ReferenceSetRefused: too few of its photos can be used.
        Conflict: the identifier is taken, or the category retired.
    """
    photos = _choose(read_photos([wanted.folder]))
    try:
        category = category_at(models.records, wanted.path, models.namespace)
    except NotFound:
        category = add_category(
            models.records, path=wanted.path, class_noun=wanted.class_noun, namespace=models.namespace
        )
    add_references(models.records, models.blobs, category, photos, wanted.rights)
    freeze_references(models.records, category)
    return category


def _choose(photos: Sequence[Photo]) -> Sequence[Photo]:
    if len(photos) <= NUM_PHOTOS:
        return photos
    chosen = sorted(random.Random(0).sample(range(len(photos)), NUM_PHOTOS))
    return [photos[index] for index in chosen]


def run_demo(
    models: DemoModels,
    categories: Sequence[DemoCategory],
    config: TrainingConfig,
    suite: Suite,
    *,
    report: ReportProgress,
    watch: Callable[[Job], None],
    skip: Callable[[DemoCategory, PackshotError], None],
    stop: Stop,
) -> DemoResult:
    """Take in all ``categories``, then train, evaluate and promote the first; the others are its rivals.

    A rival that cannot be taken in is left out, and ``skip`` told why.

    Raises:
        InvalidInput, ReferenceSetRefused, Conflict: the first one cannot be taken in.
        Interrupted: ``stop()`` became true; the same demo again goes on from there.
    """
    category = take_in(models, categories[0])
    for rival in categories[1:]:
        try:
            take_in(models, rival)
        except (InvalidInput, ReferenceSetRefused, Conflict) as error:
            skip(rival, error)
    plan = plan_training(models.records, category, models.base, config, models.code_revision)
    job = see_through(
        models.records,
        models.handlers,
        plan.job.id,
        lease=models.lease,
        report=report,
        watch=watch,
        tidy=models.tidy,
        stop=stop,
    )
    check_succeeded(job)
    fine_tune = fine_tune_of(models.records, plan.run)
    evaluation = evaluate(
        models.records, models.blobs, models.generator, models.judge, fine_tune, suite=suite, report=report
    )
    promoted = evaluation.verdict.outcome is not Outcome.REJECTED
    if promoted:
        promote(models.records, fine_tune, reason="demo")
    return DemoResult(category=category, fine_tune=fine_tune, evaluation=evaluation, promoted=promoted)
