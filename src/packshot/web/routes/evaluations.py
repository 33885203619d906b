"""``/v1/evaluations``: measure fine-tunes, and what came of it."""

from collections.abc import Sequence
from mimetypes import guess_type
from typing import Annotated

from fastapi import APIRouter, Depends, Response

from packshot.domain.errors import Conflict, NotFound
from packshot.domain.evaluation import Evaluation, EvaluationRun
from packshot.domain.jobs import Job, JobStatus
from packshot.domain.models import FineTune
from packshot.ports import Records
from packshot.services.access import owned
from packshot.services.estimates import Estimate
from packshot.services.evaluation_jobs import estimate_evaluation, evaluations_in, plan_evaluation
from packshot.services.jobs import cancel
from packshot.web.replies import Idempotent, MayRead, MayTrain, Pages
from packshot.web.schemas import EvaluationJob, NewEvaluation, Page, Urls

router = APIRouter(prefix="/evaluations", tags=["evaluations"])


def _evaluation(evaluation_id: str, call: MayRead) -> Evaluation | EvaluationRun:
    if call.records.find(EvaluationRun, id=evaluation_id):
        return owned(call.records, EvaluationRun, evaluation_id, call.namespace)
    return owned(call.records, Evaluation, evaluation_id, call.namespace)


Asked = Annotated[Evaluation | EvaluationRun, Depends(_evaluation)]


@router.post(
    "", status_code=202, response_model=EvaluationJob, responses={200: {"model": Estimate, "description": "dry_run"}}
)
def start_evaluation(body: NewEvaluation, call: MayTrain, once: Idempotent) -> Response:
    """Queue a measurement of a fine-tune against its bare base.

    The same request while that evaluation is unfinished gives the same evaluation.
    """
    fine_tune = owned(call.records, FineTune, body.fine_tune_id, call.namespace)
    suite = {"images_per_scene": body.images_per_scene, "seed": body.seed}
    if body.dry_run:
        price = call.space.settings.price_per_hour
        return once(body, lambda: estimate_evaluation(call.records, fine_tune, **suite, price_per_hour=price))

    def act() -> EvaluationJob:
        planned = plan_evaluation(
            call.records,
            fine_tune,
            **suite,
            priority=body.priority,
            admit=call.check_room,
        )
        return _state(call.records, planned.run)

    return once(body, act, status=202)


@router.get("", name="list_evaluation_jobs")
def list_all(call: MayRead, pages: Pages) -> Page[EvaluationJob]:
    """The evaluations of the namespace, the oldest first."""
    page = pages.page(lambda after, limit: evaluations_in(call.records, call.namespace, after=after, limit=limit))
    return Page(items=_states(call.records, page.items), next=page.next)


@router.get("/{evaluation_id}")
def get_evaluation(evaluation: Asked, call: MayRead) -> EvaluationJob:
    """Where an evaluation stands, and its scores, verdict and reasons once they are there."""
    return _state(call.records, evaluation)


@router.get(
    "/{evaluation_id}/files/{file_name}",
    response_class=Response,
    responses={200: {"content": {"image/png": {}, "application/json": {}}, "description": "sheet.png or report.json."}},
)
def get_evaluation_file(evaluation: Asked, file_name: str, call: MayRead) -> Response:
    """A file of an evaluation that has succeeded, as its ``artifacts`` list them."""
    made = call.records.find(Evaluation, id=evaluation.id)
    found = [artifact for each in made for artifact in each.artifacts if artifact.name == file_name]
    if not found:
        raise NotFound(f"the evaluation {evaluation.id} has no file {file_name!r}")
    media_type = guess_type(file_name)[0] or "application/octet-stream"
    return Response(call.space.blobs.get(found[0].sha256), media_type=media_type)


@router.post("/{evaluation_id}/cancel", response_model=EvaluationJob)
def cancel_evaluation(evaluation: Asked, call: MayTrain, once: Idempotent) -> Response:
    """End an evaluation that waits or runs."""

    def act() -> EvaluationJob:
        if isinstance(evaluation, Evaluation):
            raise Conflict(f"{evaluation.id} has ended already")
        cancel(call.records, evaluation.job_id)
        return _state(call.records, evaluation)

    return once("", act)


def _state(records: Records, asked: Evaluation | EvaluationRun) -> EvaluationJob:
    return _states(records, [asked])[0]


def _states(records: Records, asked: Sequence[Evaluation | EvaluationRun]) -> list[EvaluationJob]:
    """Each of them with its job and what came of it, in as many questions to the database as for one."""
    runs = [each for each in asked if isinstance(each, EvaluationRun)]
    jobs = {each.id: each for each in records.find(Job, id=[run.job_id for run in runs])}
    made = {each.id: each for each in records.find(Evaluation, id=[run.id for run in runs])}
    return [
        _planned(each, jobs[each.job_id], made.get(each.id)) if isinstance(each, EvaluationRun) else _direct(each)
        for each in asked
    ]


def _urls(asked: Evaluation | EvaluationRun) -> Urls:
    here = f"/v1/evaluations/{asked.id}"
    return Urls(get=here, cancel=f"{here}/cancel")


def _direct(evaluation: Evaluation) -> EvaluationJob:
    return EvaluationJob(
        id=evaluation.id,
        job_id=None,
        status=JobStatus.SUCCEEDED,
        progress=1.0,
        message="",
        fine_tune_id=evaluation.fine_tune_id,
        seed=evaluation.seed,
        evaluation=evaluation,
        created_at=evaluation.created_at,
        finished_at=evaluation.created_at,
        urls=_urls(evaluation),
    )


def _planned(run: EvaluationRun, job: Job, made: Evaluation | None) -> EvaluationJob:
    return EvaluationJob(
        id=run.id,
        job_id=job.id,
        status=job.status,
        progress=job.progress,
        message=job.message,
        fine_tune_id=run.fine_tune_id,
        seed=run.seed,
        evaluation=made,
        created_at=run.created_at,
        finished_at=job.finished_at,
        urls=_urls(run),
    )
