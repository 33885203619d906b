"""``dry_run`` of everything that workers do: one reply, from records alone."""

import base64
from dataclasses import replace

import pytest
from api import IDENTIFIER, PROMPT, platform_in
from photos import save_photo

from packshot.domain.evaluation import EvaluationRun
from packshot.domain.generation import Generation
from packshot.domain.jobs import Job, JobStatus
from packshot.domain.training import TrainingRun
from packshot.domain.usage import Usage
from packshot.services.catalog import new_id


@pytest.fixture
def priced(tmp_path):
    """A server whose operator asks 1 for a second."""
    yield from platform_in(tmp_path, price_per_hour=3600.0)


def dry(platform, path: str, **body: object):
    return platform.call("POST", f"/v1/{path}", json={**body, "dry_run": True})


@pytest.fixture
def asks(platform):
    """What to ask of each route, of a category that serves."""
    fine_tune_id = platform.serving()
    platform.call("POST", "/v1/templates", json={"name": "plain"}, status=201)
    return {
        "trainings": {"category": IDENTIFIER, "config": {"steps": 3}},
        "generations": {"prompt": PROMPT, "num_images": 2, "inference_steps": 10},
        "batches": {"categories": [IDENTIFIER], "templates": ["plain"], "inference_steps": 10},
        "evaluations": {"fine_tune_id": fine_tune_id, "images_per_scene": 1},
    }


def again(platform, seconds: float, **sampling: object) -> None:
    """Record the newest job that ended once more, as one that took so long."""
    records, id_ = platform.space.records, new_id("again")
    usage = records.find(Usage)[-1]
    job = records.get(Job, usage.job_id)
    records.add(replace(job, id=id_))
    for kind in (Generation, TrainingRun, EvaluationRun):
        for each in records.find(kind, job_id=job.id):
            changed = {"sampling": replace(each.sampling, **sampling)} if kind is Generation else {}
            records.add(replace(each, id=new_id("again"), job_id=id_, **changed))
    records.add(replace(usage, id=new_id("again"), job_id=id_, seconds=seconds))


def test_everything_is_estimated_alike_and_nothing_recorded(platform, asks):
    kinds = (Job, TrainingRun, Generation, EvaluationRun, Usage)
    before = [platform.space.records.find(kind) for kind in kinds]
    told = {path: dry(platform, path, **body) for path, body in asks.items()}
    assert [platform.space.records.find(kind) for kind in kinds] == before
    assert len({tuple(estimate) for estimate in told.values()}) == 1
    made = {
        path: [estimate[name] for name in ("kind", "pictures", "denoising_steps", "training_steps", "training_images")]
        for path, estimate in told.items()
    }
    assert made == {
        "trainings": ["training", 24, 384, 3, 24],
        "generations": ["generation", 2, 20, 0, 0],
        "batches": ["batch", 1, 10, 0, 0],
        "evaluations": ["evaluation", 48, 960, 0, 0],
    }
    versions = [(each["category"], each["version"], each["base"]) for each in told["evaluations"]["models"]]
    assert versions == [(IDENTIFIER, 1, "embedded"), (None, None, "embedded")]
    for path in ("generations", "batches"):
        (model,) = told[path]["models"]
        assert (model["version"], model["fine_tune_id"]) == (1, asks["evaluations"]["fine_tune_id"])
    (model,) = told["trainings"]["models"]
    assert (model["category"], model["reference_set_version"], model["version"]) == (IDENTIFIER, 1, None)


def test_where_no_job_has_ended_time_and_cost_are_unknown(priced):
    priced.frozen()
    told = dry(priced, "trainings", category=IDENTIFIER)
    assert (told["seconds"], told["cost"], told["measured_jobs"]) == (None, None, 0)


def test_finished_jobs_on_the_same_base_tell_time_and_cost(priced):
    fine_tune_id = priced.serving()
    for seconds in (5.0, 6.0):
        again(priced, seconds)  # of 3 steps of 8 pictures
    told = dry(priced, "trainings", category=IDENTIFIER, config={"steps": 30, "batch_size": 2})
    assert told["measured_jobs"] == 3
    assert told["seconds"] == told["cost"] == pytest.approx(5.0 * 30 * 4 / 24)
    assert dry(priced, "trainings", category=IDENTIFIER, config={"method": "full"})["seconds"] is None

    asked = {"prompt": PROMPT, "num_images": 2, "inference_steps": 10}
    assert dry(priced, "generations", **asked)["seconds"] is None
    priced.call("POST", "/v1/generations", json=asked, status=202)
    priced.work()
    for seconds in (4.0, 8.0):
        again(priced, seconds)
    again(priced, 100.0, width=64, height=64)
    told = dry(priced, "generations", **{**asked, "num_images": 10})
    assert (told["measured_jobs"], told["seconds"], told["cost"]) == (3, 20.0, 20.0)
    assert dry(priced, "generations", **asked, guidance_scale=1)["seconds"] is None
    priced.call("POST", "/v1/templates", json={"name": "plain"}, status=201)
    priced.call("POST", "/v1/templates", json={"name": "small", "width": 64, "height": 64}, status=201)
    told = dry(priced, "batches", categories=[IDENTIFIER], templates=["plain", "small"], inference_steps=10)
    assert (told["pictures"], told["measured_jobs"], told["seconds"]) == (2, 4, 2.0 + 50.0)

    priced.call("POST", "/v1/evaluations", json={"fine_tune_id": fine_tune_id, "images_per_scene": 1}, status=202)
    priced.work()
    for seconds in (48.0, 96.0):
        again(priced, seconds)
    told = dry(priced, "evaluations", fine_tune_id=fine_tune_id, images_per_scene=4)
    assert (told["pictures"], told["measured_jobs"], told["seconds"]) == (96, 3, 96.0)


def test_all_attempts_at_a_job_count_and_failed_jobs_do_not(priced):
    priced.serving()
    again(priced, 2.0)
    records = priced.space.records
    usage = records.find(Usage)[-1]
    lost = replace(usage, id="lost", status=JobStatus.QUEUED, seconds=1.0, num_steps=3)
    failed = replace(records.get(Job, usage.job_id), id="failed")
    records.add(lost, failed, replace(usage, id="f", job_id="failed", status=JobStatus.FAILED, seconds=1e6))
    told = dry(priced, "trainings", category=IDENTIFIER, config={"steps": 3})
    assert told["measured_jobs"] == 2
    first = records.find(Usage)[0].seconds
    assert told["seconds"] == pytest.approx((first + 3.0 / 2) / 2)


def test_a_layout_that_comes_along_is_checked_and_not_kept(platform):
    platform.serving()
    save_photo(platform.folder / "layout.png", 3)
    layout = base64.b64encode((platform.folder / "layout.png").read_bytes()).decode()
    before = set(platform.space.blobs)
    told = dry(platform, "generations", prompt=PROMPT, layout=layout, strength=0.5)
    assert (told["pictures"], told["denoising_steps"]) == (1, 10)
    assert set(platform.space.blobs) == before
    body = {"prompt": PROMPT, "layout": "AAAA", "dry_run": True}
    platform.call("POST", "/v1/generations", json=body, status=422)


@pytest.mark.parametrize(
    ("path", "body", "status", "type_"),
    [
        ("generations", {"prompt": "acme_gala_apple on grass"}, 422, "unknown-identifier"),
        ("generations", {"prompt": PROMPT, "inference_steps": 0}, 422, "invalid-input"),
        ("generations", {"prompt": PROMPT, "model": "other/x"}, 404, "not-found"),
        ("generations", {}, 422, "invalid-input"),
        ("evaluations", {"fine_tune_id": "ft_1"}, 404, "not-found"),
        ("evaluations", {"images_per_scene": 51}, 422, "invalid-input"),
    ],
    ids=str,
)
@pytest.mark.parametrize("dry_run", [True, False])
def test_what_cannot_be_is_refused_dry_or_not(platform, asks, path, body, status, type_, dry_run):
    body = {**(asks["evaluations"] if path == "evaluations" else {}), **body, "dry_run": dry_run}
    assert platform.call("POST", f"/v1/{path}", json=body, status=status)["type"] == f"/problems/{type_}"


def test_an_estimate_needs_the_scope_of_what_it_is_about(platform, asks):
    for path, body in asks.items():
        platform.call("POST", f"/v1/{path}", json={**body, "dry_run": True}, status=403, key=platform.key("read"))


def test_no_model_is_looked_at(platform, asks):
    for name in ("trainer", "generator", "judge", "bases"):
        vars(platform.space)[name] = None
    for path, body in asks.items():
        dry(platform, path, **body)
