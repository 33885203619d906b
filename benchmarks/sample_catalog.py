"""The sample catalog in a workspace, and fine-tunes of its categories made as ``packshot train`` makes them. Measures nothing."""

from packshot.bootstrap import Workspace, code_revision
from packshot.domain.catalog import Category
from packshot.domain.models import BaseModelRef, FineTune
from packshot.domain.training import TrainingConfig
from packshot.embedded import CATALOG_FOLDER
from packshot.services.demo import DemoModels, sample_categories, take_in
from packshot.services.jobs import check_succeeded, work_on_one
from packshot.services.training import fine_tune_of, plan_training


def taken_in(space: Workspace, base: BaseModelRef) -> dict[str, Category]:
    """All categories of the sample catalog by path, each with a frozen set of its photos."""
    models = DemoModels(
        records=space.records,
        blobs=space.blobs,
        generator=space.generator,
        judge=space.judge,
        base=base,
        handlers=space.handlers,
        tidy=space.tidy,
        lease=space.lease,
        code_revision=code_revision(),
        namespace=space.settings.namespace,
    )
    return {each.path: take_in(models, each) for each in sample_categories(CATALOG_FOLDER)}


def trained(space: Workspace, category: Category, base: BaseModelRef, config: TrainingConfig) -> FineTune:
    """A fine-tune, trained now."""
    plan = plan_training(space.records, category, base, config, code_revision())
    job = work_on_one(space.records, space.handlers, job_id=plan.job.id, lease=space.lease)
    assert job is not None, "nobody else works in this workspace"
    check_succeeded(job)
    return fine_tune_of(space.records, plan.run)
