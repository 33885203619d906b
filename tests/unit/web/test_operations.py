"""What whoever runs a server can see: health, metrics, and a log without secrets."""

import json
import logging
import re
from collections.abc import Iterator

import pytest
from api import PROMPT, platform_in
from fastapi.testclient import TestClient

from packshot.diffusion.tallies import EngineTally
from packshot.domain.errors import WorkspaceUnusable
from packshot.logs import LOGGERS, configure_logs
from packshot.services.engine_work import engine_noted
from packshot.settings import Settings


@pytest.fixture
def lines(capsys) -> Iterator:
    """A function that gives what was logged as JSON."""
    before = {name: (logging.getLogger(name).handlers, logging.getLogger(name).level) for name in LOGGERS}
    configure_logs(Settings(log_format="json"))
    yield lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    for name, (handlers, level) in before.items():
        logging.getLogger(name).handlers = handlers
        logging.getLogger(name).setLevel(level)


def metrics(platform, **headers: str) -> dict[str, float]:
    reply = platform.client.get("/metrics", headers=headers or platform.key("admin"))
    assert reply.status_code == 200, reply.text
    samples = (line.rpartition(" ") for line in reply.text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in samples}


def test_metrics_count_jobs_pictures_steps_and_requests(platform):
    platform.serving()
    platform.call("POST", "/v1/generations", json={"prompt": PROMPT, "num_images": 3}, status=202)
    waiting = metrics(platform)
    assert waiting['packshot_jobs{kind="generation",status="queued"}'] == 1
    assert waiting['packshot_jobs{kind="training",status="succeeded"}'] == 1
    assert waiting["packshot_pictures_total"] == 0
    platform.work()
    platform.client.get("/v1/images/nothing", headers=platform.key("read"))
    platform.client.get("/v1/images/nothing/at/all")
    done = metrics(platform)
    assert done['packshot_jobs{kind="generation",status="queued"}'] == 0
    assert done['packshot_job_seconds_count{kind="generation",status="succeeded"}'] == 1
    assert done['packshot_job_seconds_sum{kind="training",status="succeeded"}'] > 0
    assert done["packshot_pictures_total"] == 3
    assert done["packshot_training_step_seconds_count"] == 3
    assert done["packshot_training_step_seconds_sum"] > 0
    assert done['packshot_http_requests_total{method="POST",route="/v1/generations",status="202"}'] == 1
    assert done['packshot_http_requests_total{method="GET",route="/v1/images/{image_id}",status="404"}'] == 1
    assert done['packshot_http_requests_total{method="GET",route="none",status="401"}'] == 1
    assert done['packshot_http_request_seconds_count{method="POST",route="/v1/generations"}'] == 1
    assert not [name for name in done if "acme" in name or "fuji" in name]


def test_metrics_sum_up_what_the_engines_of_all_workers_did(platform):
    before = metrics(platform)
    assert (
        before['packshot_denoising_step_seconds_bucket{le="+Inf"}'] == before["packshot_adapter_slot_hits_total"] == 0
    )
    for seconds, fill in ((0.3, 0.5), (20, 1)):
        tally = EngineTally()
        with engine_noted(platform.space.records, tally.take):
            tally.step(seconds, fill)
            tally.hit()
        tally.miss()  # after its last note
    done = metrics(platform)
    assert done["packshot_denoising_step_seconds_count"] == 2
    assert done["packshot_denoising_step_seconds_sum"] == 20.3
    assert done['packshot_denoising_step_seconds_bucket{le="0.25"}'] == 0
    assert done['packshot_denoising_step_seconds_bucket{le="0.5"}'] == 1
    assert done['packshot_denoising_step_seconds_bucket{le="10.0"}'] == 1
    assert done["packshot_batch_fill_ratio_sum"] == 1.5
    assert done['packshot_batch_fill_ratio_bucket{le="0.5"}'] == 1
    assert done['packshot_batch_fill_ratio_bucket{le="1.0"}'] == 2
    assert (done["packshot_adapter_slot_hits_total"], done["packshot_adapter_slot_misses_total"]) == (2, 0)


def test_metrics_need_an_admins_key_from_elsewhere_and_none_on_this_machine(tmp_path):
    for platform in platform_in(tmp_path / "far"):
        assert platform.client.get("/metrics").status_code == 401
        assert platform.client.get("/metrics", headers=platform.key("read")).status_code == 403
        assert platform.client.get("/metrics", headers=platform.key("admin")).status_code == 200
    for platform in platform_in(tmp_path / "near", client=("127.0.0.1", 1)):
        assert metrics(platform, Host="localhost:8000")
        assert platform.client.get("/metrics", headers={"Host": "evil.example"}).status_code == 401
        assert platform.client.get("/v1/bases", headers={"Host": "localhost:8000"}).status_code == 401


def test_a_server_lives_also_where_it_is_not_ready(platform, monkeypatch, lines):
    assert platform.client.get("/livez").json() == {"live": True}
    assert platform.client.get("/readyz").json() == {"ready": True, "database": True, "blobs": True}

    def gone(*_: object, **__: object) -> None:
        raise WorkspaceUnusable("the database /srv/secret/place does not answer")

    monkeypatch.setattr(type(platform.space.records), "tally", gone)
    reply = platform.client.get("/readyz")
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "5")
    assert reply.json() == {"ready": False, "database": False, "blobs": True}
    assert platform.client.get("/livez").status_code == 200
    assert [line for line in lines() if line["level"] == "error" and "/srv/secret/place" in line["exception"]]


def test_every_request_is_logged_with_its_id_and_without_secrets(platform, lines):
    headers = {**platform.key("admin"), "X-Request-Id": "order-7", "Idempotency-Key": "hush-1"}
    platform.client.post("/v1/categories?hush=2", json={"path": "hush_3", "class_noun": "hush-4"}, headers=headers)
    platform.client.get("/v1/bases", headers={"Authorization": "Bearer hush-5"})
    platform.work()
    logged = [line for line in lines() if line["event"] == "request"]
    assert [(line["route"], line["status"], line["method"]) for line in logged] == [
        ("/v1/categories", 422, "POST"),
        ("none", 401, "GET"),
    ]
    first = logged[0]
    assert (first["request_id"], first["namespace"], first["level"]) == ("order-7", "acme", "info")
    assert first["key_id"].startswith("key_")
    assert re.fullmatch("[0-9a-f]{16}", logged[1]["request_id"])
    text = json.dumps(logged)
    assert "hush" not in text
    assert platform.keys["acme", "admin"] not in text


def test_a_surprise_is_logged_under_the_request_id_that_the_caller_got(platform, monkeypatch, lines):
    def surprise(*_: object, **__: object) -> None:
        raise RuntimeError("it said: Bearer pks_abcdefghijklmnop")

    headers = platform.key("admin")
    monkeypatch.setattr("packshot.web.routes.models.registered", surprise, raising=False)
    monkeypatch.setattr(type(platform.space.records), "find", surprise)
    with TestClient(platform.client.app, raise_server_exceptions=False) as client:
        told = client.get("/v1/bases", headers=headers)
    errors = [line for line in lines() if line["level"] == "error"]
    assert told.status_code == 500
    assert [line["request_id"] for line in errors] == [told.json()["request_id"]] == [told.headers["x-request-id"]]
    assert "RuntimeError" in errors[0]["exception"]
    assert "abcdefghijklmnop" not in json.dumps(errors)


def test_jobs_are_logged_and_a_surprise_has_its_cause(platform, lines):
    platform.serving()
    lines()
    platform.train()
    platform.call("POST", "/v1/generations", json={"prompt": PROMPT}, status=202)
    platform.space.generator.failure = ZeroDivisionError("by surprise")
    platform.work()
    logged = lines()
    left = [(line["kind"], line["status"], line["namespace"]) for line in logged if line["event"] == "job left"]
    assert left == [("training", "succeeded", "acme"), ("generation", "failed", "acme")]
    assert [line for line in logged if "ZeroDivisionError: by surprise" in line.get("exception", "")]


def test_text_is_the_other_format_and_a_level_leaves_out_what_matters_less(platform, lines, capsys):
    configure_logs(Settings(log_format="text"))
    platform.call("GET", "/v1/bases")
    assert re.search(r"request .*route=/v1/bases", capsys.readouterr().err)
    configure_logs(Settings(log_level="warning"))
    platform.call("GET", "/v1/bases")
    assert capsys.readouterr().err == ""
