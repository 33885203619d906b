"""``/v1/trainings``: plan, watch and cancel trainings."""

from collections.abc import AsyncIterator, Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from packshot.bootstrap import code_revision
from packshot.domain.catalog import Category
from packshot.domain.jobs import Job
from packshot.domain.models import BaseModelRef, FineTune
from packshot.domain.presets import parse_config
from packshot.domain.training import TrainingRun
from packshot.ports import Records
from packshot.services.access import owned
from packshot.services.catalog import category_called
from packshot.services.estimates import Estimate
from packshot.services.jobs import cancel
from packshot.services.models import registered_base
from packshot.services.training import plan_training
from packshot.services.training_cost import estimate_training
from packshot.web.events import LastEventId, changes
from packshot.web.replies import Idempotent, MayRead, MayTrain, Pages
from packshot.web.schemas import NewTraining, Page, Training, TrainingUrls

router = APIRouter(prefix="/trainings", tags=["trainings"])


def _run(training_id: str, call: MayRead) -> TrainingRun:
    return owned(call.records, TrainingRun, training_id, call.namespace)


Run = Annotated[TrainingRun, Depends(_run)]


@router.post(
    "", status_code=202, response_model=Training, responses={200: {"model": Estimate, "description": "dry_run"}}
)
def start_training(body: NewTraining, call: MayTrain, once: Idempotent) -> Response:
    """Queue a training of the newest frozen reference set.

    The same request while that training is unfinished gives the same training.
    """
    category = category_called(call.records, body.category, call.namespace)
    base = registered_base(call.records, body.base)
    config = parse_config(body.config, base_resolution=base.resolution, family=base.family)
    if body.dry_run:
        price = call.space.settings.price_per_hour
        return once(body, lambda: estimate_training(call.records, category, base, config, price_per_hour=price))

    def act() -> Training:
        planned = plan_training(
            call.records,
            category,
            base,
            config,
            code_revision(),
            namespace=call.namespace,
            priority=body.priority,
            admit=call.check_room,
        )
        return _state(call.records, planned.run)

    return once(body, act, status=202)


@router.get("")
def list_trainings(call: MayRead, pages: Pages) -> Page[Training]:
    """The trainings of the namespace, the oldest first."""
    page = pages.of(call.records, TrainingRun, namespace=call.namespace)
    return Page(items=_states(call.records, page.items), next=page.next)


@router.get("/{training_id}")
def get_training(run: Run, call: MayRead) -> Training:
    """Where a training stands."""
    return _state(call.records, run)


@router.post("/{training_id}/cancel", response_model=Training)
def cancel_training(run: Run, call: MayTrain, once: Idempotent) -> Response:
    """End a training that waits or runs."""

    def act() -> Training:
        cancel(call.records, run.job_id)
        return _state(call.records, run)

    return once("", act)


@router.get("/{training_id}/events", response_class=EventSourceResponse)
async def watch_training(run: Run, call: MayRead, last_event_id: LastEventId = None) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events: the training whenever something has changed, the last one when it has ended."""
    async for event in changes(lambda: _state(call.records, run), last_event_id):
        yield event


def _state(records: Records, run: TrainingRun) -> Training:
    return _states(records, [run])[0]


def _states(records: Records, runs: Sequence[TrainingRun]) -> list[Training]:
    """Each of ``runs`` with its job and its fine-tune, in as many questions to the database as for one."""
    jobs = {each.id: each for each in records.find(Job, id=[run.job_id for run in runs])}
    categories = {each.id: each for each in records.find(Category, id=[*{run.category_id for run in runs}])}
    bases = {each.id: each for each in records.find(BaseModelRef, id=[*{run.base_id for run in runs}])}
    made = {each.training_run_id: each for each in records.find(FineTune, training_run_id=[run.id for run in runs])}
    return [
        Training(
            id=run.id,
            job_id=run.job_id,
            status=jobs[run.job_id].status,
            progress=jobs[run.job_id].progress,
            message=jobs[run.job_id].message,
            category=categories[run.category_id].identifier,
            base=bases[run.base_id].source,
            config=run.config,
            fine_tune_id=made[run.id].id if run.id in made else None,
            created_at=run.created_at,
            finished_at=jobs[run.job_id].finished_at,
            urls=_urls(run),
        )
        for run in runs
    ]


def _urls(run: TrainingRun) -> TrainingUrls:
    here = f"/v1/trainings/{run.id}"
    return TrainingUrls(get=here, cancel=f"{here}/cancel", events=f"{here}/events")
