"""Jobs that failed or were canceled, queued anew: what comes of them, and what stands in the way."""

from datetime import timedelta

import pytest
from api import IDENTIFIER, PROMPT

from packshot import Client
from packshot.domain.errors import Conflict
from packshot.domain.jobs import MAX_ATTEMPTS, Job
from packshot.domain.usage import Usage
from packshot.domain.webhooks import Delivery
from packshot.services.catalog import now
from packshot.services.jobs import work_on_one
from packshot.services.limits import set_quota

LEASE = timedelta(minutes=1)


def ask(platform, path="/v1/generations", **body):
    return platform.call("POST", path, json=body or {"prompt": PROMPT, "num_images": 2}, status=202)


def retry(platform, job_id, *, status=200, **options):
    return platform.call("POST", f"/v1/jobs/{job_id}/retry", status=status, **options)


def failed(platform, path="/v1/generations", **body):
    """What was asked for and failed, since the model did."""
    asked = ask(platform, path, **body)
    platform.space.generator.failure = ZeroDivisionError("by surprise")
    platform.work()
    platform.space.generator.failure = None
    ended = platform.call("GET", asked["urls"]["get"])
    assert ended["status"] == "failed"
    return ended


def test_a_failed_request_is_made_after_all_and_each_end_is_told(platform):
    platform.serving()
    platform.call("POST", "/v1/webhooks", json={"url": "https://shop.example/"}, status=201)
    asked = failed(platform)
    job_id = asked["job_id"]
    urls = platform.call("GET", f"/v1/jobs/{job_id}")["urls"]
    again = platform.call("POST", urls["retry"])
    assert (again["id"], again["status"], again["message"], again["progress"]) == (job_id, "queued", "", 0.0)
    assert again["finished_at"] is None
    assert platform.call("GET", asked["urls"]["get"])["status"] == "queued"
    platform.work()
    done = platform.call("GET", asked["urls"]["get"])
    assert (done["status"], len(done["images"])) == ("succeeded", 2)
    assert platform.call("GET", f"/v1/jobs/{job_id}")["attempt"] == 2
    records = platform.space.records
    assert [each.event for each in records.find(Delivery, job_id=job_id)] == ["job.failed", "job.succeeded"]
    assert [each.num_images for each in records.find(Usage, job_id=job_id)] == [0, 2]


def test_a_canceled_training_and_a_failed_evaluation_are_carried_out_after_all(platform):
    platform.frozen()
    asked = ask(platform, "/v1/trainings", category=IDENTIFIER, config={"steps": 3})
    platform.call("POST", asked["urls"]["cancel"])
    retry(platform, asked["job_id"])
    assert ask(platform, "/v1/trainings", category=IDENTIFIER, config={"steps": 3})["id"] == asked["id"]
    platform.work()
    trained = platform.call("GET", asked["urls"]["get"])
    assert trained["status"] == "succeeded"
    evaluation = failed(platform, "/v1/evaluations", fine_tune_id=trained["fine_tune_id"], images_per_scene=1)
    retry(platform, evaluation["job_id"])
    platform.work()
    assert platform.call("GET", evaluation["urls"]["get"])["status"] == "succeeded"


def test_a_batch_makes_what_is_missing_and_forgets_why_it_was(platform):
    platform.serving()
    platform.call("POST", "/v1/categories", json={"path": "apple/gala", "class_noun": "apple"}, status=201)
    for name in ("plain", "summer"):
        platform.call("POST", "/v1/templates", json={"name": name}, status=201)
    body = {"categories": [IDENTIFIER, "acme_gala_apple"], "templates": ["plain", "summer"], "num_images": 2}
    asked = ask(platform, "/v1/batches", **body)
    platform.space.generator.failure = Conflict("not now")
    platform.work()
    platform.space.generator.failure = None
    batch = platform.call("GET", asked["urls"]["get"])
    assert (batch["status"], batch["num_made"], len(batch["failures"])) == ("failed", 0, 4)
    (job,) = platform.call("GET", "/v1/jobs", params={"status": "failed"})["items"]
    retry(platform, job["id"])
    assert len(platform.call("GET", asked["urls"]["get"])["failures"]) == 2
    platform.work()
    done = platform.call("GET", asked["urls"]["get"])
    assert (done["status"], done["num_made"]) == ("succeeded", 4)
    assert [(each["category"], each["type"]) for each in done["failures"]] == [
        ("apple/gala", "/problems/nothing-serving")
    ] * 2


def test_what_has_not_ended_or_has_succeeded_is_not_retried(platform):
    platform.serving()
    asked = ask(platform)
    refused = retry(platform, asked["job_id"], status=409)
    assert refused["type"] == "/problems/conflict"
    assert "is queued" in refused["detail"]
    platform.space.records.claim("a worker", now(), LEASE)
    assert "is running" in retry(platform, asked["job_id"], status=409)["detail"]
    (training,) = platform.call("GET", "/v1/jobs", params={"status": "succeeded"})["items"]
    assert "has succeeded" in retry(platform, training["id"], status=409)["detail"]
    retry(platform, "job_nobody", status=404)
    retry(platform, asked["job_id"], status=404, key=platform.key("admin", team="rival"))


def test_a_job_that_ran_when_it_was_canceled_waits_for_its_worker_to_stop(platform):
    platform.serving()
    asked = ask(platform)
    records = platform.space.records
    refusals = []

    def cancel_and_retry(job, report, stop):
        platform.call("POST", asked["urls"]["cancel"])
        refusals.append(retry(platform, job.id, status=409)["detail"])

    work_on_one(records, dict.fromkeys(platform.space.handlers, cancel_and_retry))
    assert "has not stopped yet" in refusals[0]
    assert records.get(Job, asked["job_id"]).status == "canceled"
    retry(platform, asked["job_id"])
    platform.work()
    assert len(platform.call("GET", asked["urls"]["get"])["images"]) == 2


def test_one_whose_worker_never_stopped_can_be_retried_when_its_lease_has_run_out(platform):
    platform.serving()
    asked = ask(platform)
    platform.space.records.claim("dies", now() - 2 * LEASE, LEASE)
    platform.call("POST", asked["urls"]["cancel"])
    assert retry(platform, asked["job_id"])["status"] == "queued"


def test_as_many_workers_may_die_on_it_again(platform):
    platform.serving()
    asked = ask(platform)
    records = platform.space.records
    long_ago = now() - timedelta(days=1)
    for _ in range(2):
        for number in range(MAX_ATTEMPTS):
            assert records.claim("dies", long_ago + number * 2 * LEASE, LEASE)
        platform.work()
        assert f"{MAX_ATTEMPTS} workers died" in platform.call("GET", asked["urls"]["get"])["message"]
        retry(platform, asked["job_id"])
    platform.work()
    assert platform.call("GET", asked["urls"]["get"])["status"] == "succeeded"


def test_it_needs_room_and_the_scope_of_what_it_makes(platform):
    platform.serving()
    pictures = failed(platform)
    training = ask(platform, "/v1/trainings", category=IDENTIFIER, config={"steps": 9})
    platform.call("POST", training["urls"]["cancel"])
    for job_id, enough, other in (
        (pictures["job_id"], "generate", "train"),
        (training["job_id"], "train", "generate"),
    ):
        assert retry(platform, job_id, status=403, key=platform.key(other))["type"] == "/problems/scope-missing"
        retry(platform, job_id, status=403, key=platform.key("read"))
        assert retry(platform, job_id, key=platform.key(enough))["status"] == "queued"
    platform.call("POST", training["urls"]["cancel"])
    set_quota(platform.space.records, "acme", max_unfinished_jobs=1, requests_per_minute=None)
    assert retry(platform, training["job_id"], status=429)["type"] == "/problems/quota-exceeded"
    assert platform.call("GET", training["urls"]["get"])["status"] == "canceled"


def test_the_same_request_again_is_the_same_retry_and_the_client_has_it(platform):
    platform.serving()
    asked = failed(platform)
    key = {"Idempotency-Key": "once more"}
    first = retry(platform, asked["job_id"], headers=key)
    platform.work()
    assert retry(platform, asked["job_id"], headers=key) == first
    client = Client(key=platform.keys["acme", "admin"], http=platform.client)
    with pytest.raises(Conflict, match="has succeeded"):
        client.retry_job(asked["job_id"])
    assert client.retry_job(failed(platform)["job_id"]).status == "queued"
