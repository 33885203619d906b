"""Evaluations over HTTP: asked for, made by a worker, found."""

from dataclasses import replace
from math import isnan

import pytest
from contracts.examples import EVALUATION, NOW

from packshot.domain.evaluation import Evaluation, EvaluationRun
from packshot.domain.jobs import JobStatus
from packshot.web.schemas import EvaluationJob, Urls


def start(platform, fine_tune_id: str, status: int = 202, **change: object):
    body = {"fine_tune_id": fine_tune_id, "images_per_scene": 1, **change}
    return platform.call("POST", "/v1/evaluations", json=body, status=status)


def test_an_evaluation_from_request_to_verdict(platform):
    fine_tune_id = platform.serving()
    asked = start(platform, fine_tune_id, seed=7)
    assert (asked["status"], asked["evaluation"], asked["seed"]) == ("queued", None, 7)
    assert start(platform, fine_tune_id, seed=7)["id"] == asked["id"]
    platform.work()
    done = platform.call("GET", asked["urls"]["get"])
    assert (done["status"], done["progress"]) == ("succeeded", 1.0)
    evaluation = done["evaluation"]
    assert (evaluation["id"], evaluation["fine_tune_id"], evaluation["seed"]) == (asked["id"], fine_tune_id, 7)
    assert evaluation["verdict"]["outcome"] in ("passed", "review", "rejected")
    listed = platform.call("GET", f"/v1/fine-tunes/{fine_tune_id}/evaluations")["items"]
    assert listed == [evaluation]
    assert start(platform, fine_tune_id, seed=7)["id"] != asked["id"]


def test_the_files_of_an_evaluation_are_there_when_it_has_succeeded(platform):
    asked = start(platform, platform.serving())

    def get(name: str):
        return platform.client.get(f"{asked['urls']['get']}/files/{name}", headers=platform.key("read"))

    assert get("sheet.png").status_code == 404
    platform.work()
    sheet, report = get("sheet.png"), get("report.json")
    assert (sheet.headers["content-type"], sheet.content[:4]) == ("image/png", b"\x89PNG")
    assert (report.headers["content-type"], report.json()["id"]) == ("application/json", asked["id"])
    assert get("nothing.png").status_code == get("..%2fsheet.png").status_code == 404


def test_the_list_has_what_was_asked_for_and_what_was_made_elsewhere(platform):
    fine_tune_id = platform.serving()
    elsewhere = platform.evaluated(fine_tune_id)
    asked = start(platform, fine_tune_id)
    page = platform.call("GET", "/v1/evaluations", params={"limit": 1})
    assert [(each["id"], each["status"]) for each in page["items"]] == [(elsewhere, "succeeded")]
    rest = platform.call("GET", "/v1/evaluations", params={"cursor": page["next"]})
    assert ([each["id"] for each in rest["items"]], rest["next"]) == ([asked["id"]], None)
    platform.work()
    listed = platform.call("GET", "/v1/evaluations")["items"]
    assert [each["status"] for each in listed] == ["succeeded", "succeeded"]
    assert platform.call("POST", f"/v1/evaluations/{elsewhere}/cancel", status=409)["type"] == "/problems/conflict"


def test_a_waiting_evaluation_can_be_canceled(platform):
    asked = start(platform, platform.serving())
    assert platform.call("POST", asked["urls"]["cancel"])["status"] == "canceled"
    platform.work()
    assert platform.call("GET", asked["urls"]["get"])["evaluation"] is None
    assert platform.space.records.find(Evaluation) == []


def test_an_evaluation_that_failed_says_why(platform):
    asked = start(platform, platform.serving())
    platform.space.generator.failure = MemoryError("no room")
    platform.work()
    failed = platform.call("GET", asked["urls"]["get"])
    assert (failed["status"], failed["message"]) == ("failed", "MemoryError: no room")


@pytest.mark.parametrize(
    ("change", "status", "type_"),
    [
        ({"fine_tune_id": "ft_nobody"}, 404, "not-found"),
        ({"images_per_scene": 0}, 422, "invalid-input"),
        ({"images_per_scene": 51}, 422, "invalid-input"),
        ({"seed": -1}, 422, "invalid-input"),
        ({"scenes": 3}, 422, "malformed-request"),
    ],
    ids=str,
)
def test_an_evaluation_that_cannot_be_is_refused(platform, change, status, type_):
    fine_tune_id = platform.serving()
    refused = start(platform, **{"fine_tune_id": fine_tune_id, "status": status, **change})
    assert refused["type"] == f"/problems/{type_}"
    assert platform.space.records.find(EvaluationRun) == []


@pytest.mark.parametrize("evaluation", [None, EVALUATION])
def test_what_is_told_of_an_evaluation_can_be_read_back(evaluation):
    assert EvaluationJob.model_validate_json(job(evaluation).model_dump_json()) == job(evaluation)


def test_a_score_that_is_no_number_can_be_read_back():
    broken = replace(
        EVALUATION, real_fidelity=float("inf"), fine_tune=replace(EVALUATION.fine_tune, diversity=float("nan"))
    )
    read = EvaluationJob.model_validate_json(job(broken).model_dump_json()).evaluation
    assert isnan(read.real_fidelity)
    assert isnan(read.fine_tune.diversity)
    assert replace(read, real_fidelity=0.9, fine_tune=EVALUATION.fine_tune) == EVALUATION


def job(evaluation: Evaluation | None) -> EvaluationJob:
    return EvaluationJob(
        id="evaluation-1",
        job_id=None,
        status=JobStatus.SUCCEEDED,
        progress=1,
        message="",
        fine_tune_id="fine-tune-1",
        seed=1,
        evaluation=evaluation,
        created_at=NOW,
        finished_at=NOW,
        urls=Urls(get="/v1/evaluations/evaluation-1", cancel=""),
    )
