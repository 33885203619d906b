"""Teams are told that their jobs have ended: signed, again until it works, and to nobody else."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from api import PROMPT

from packshot.domain.errors import AddressRefused, InvalidInput, SignatureRefused, WorkspaceUnusable
from packshot.domain.jobs import MAX_ATTEMPTS
from packshot.domain.urls import check_url
from packshot.domain.webhooks import (
    BACKOFF,
    Delivery,
    DeliveryStatus,
    Webhook,
    check_signature,
    signed_headers,
)
from packshot.services.catalog import now
from packshot.services.jobs import work_on_one
from packshot.services.models import register_base
from packshot.services.webhooks import deliver_due
from packshot.settings import read_settings
from packshot.storage.secret_key import read_secret_key

URL = "https://shop.example/hook"


@dataclass
class FakePoster:
    """Keeps what it is given, and answers with the next of ``answers`` (204 at last)."""

    answers: list[int | AddressRefused] = field(default_factory=list)
    sent: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        self.sent.append((url, body.decode(), dict(headers)))
        answer = self.answers.pop(0) if self.answers else 204
        if isinstance(answer, AddressRefused):
            raise answer
        return answer


@pytest.fixture
def poster() -> FakePoster:
    return FakePoster()


def hook(platform, team: str = "acme", url: str = URL):
    return platform.call("POST", "/v1/webhooks", json={"url": url}, status=201, key=platform.key("admin", team=team))


def queued(platform, team: str = "acme") -> str:
    register_base(platform.space.records, platform.space.bases.describe("embedded"))
    made = platform.call(
        "POST", "/v1/generations", json={"prompt": "plain"}, status=202, key=platform.key("generate", team=team)
    )
    return made["id"]


def test_the_end_of_a_job_is_told_to_its_team_and_signed(platform, poster):
    mine, _ = hook(platform), hook(platform, team="rival", url="https://rival.example/")
    generation_id = queued(platform)
    assert deliver_due(platform.space.records, poster, platform.space.secret_key) == []
    platform.work()
    assert [each.status for each in deliver_due(platform.space.records, poster, platform.space.secret_key)] == [
        "delivered"
    ]
    ((url, body, headers),) = poster.sent
    assert url == URL
    told = json.loads(body)
    assert told["type"] == "job.succeeded"
    assert (told["data"]["subject_id"], told["data"]["kind"]) == (generation_id, "generation")
    check_signature(mine["secret"], headers, body, now())
    assert deliver_due(platform.space.records, poster, platform.space.secret_key, now() + timedelta(days=9)) == []
    seen = platform.call("GET", f"/v1/webhooks/{mine['id']}/deliveries")["items"]
    assert [(each["event"], each["status"], each["num_attempts"]) for each in seen] == [
        ("job.succeeded", "delivered", 1)
    ]


def test_every_way_to_end_is_told_once(platform, poster):
    platform.serving()
    hook(platform)
    body = {"category": "acme_fuji_apple", "config": {"steps": 4}}
    platform.call("POST", "/v1/trainings", json=body, status=202)
    platform.work()
    platform.space.generator.failure = ZeroDivisionError("by surprise")
    platform.call("POST", "/v1/generations", json={"prompt": PROMPT}, status=202)
    platform.work()
    canceled = platform.call("POST", "/v1/generations", json={"prompt": PROMPT}, status=202)
    platform.call("POST", canceled["urls"]["cancel"])
    platform.call("POST", "/v1/generations", json={"prompt": PROMPT}, status=202)
    at = now() - timedelta(minutes=1)
    for _ in range(MAX_ATTEMPTS):
        platform.space.records.claim("dies", at, timedelta(seconds=1))
        at += timedelta(seconds=2)
    work_on_one(platform.space.records, platform.space.handlers)
    deliver_due(platform.space.records, poster, platform.space.secret_key)
    told = [(json.loads(body)["data"]["kind"], json.loads(body)["type"]) for _, body, _ in poster.sent]
    assert sorted(told) == [
        ("generation", "job.canceled"),
        ("generation", "job.failed"),
        ("generation", "job.failed"),
        ("training", "job.succeeded"),
    ]
    assert any("by surprise" in body for _, body, _ in poster.sent)


def test_a_message_comes_again_with_growing_pauses_under_the_same_id(platform, poster):
    hook(platform)
    queued(platform)
    platform.work()
    poster.answers = [500, AddressRefused("no answer"), 302]
    at = now()
    (first,) = deliver_due(platform.space.records, poster, platform.space.secret_key, at)
    assert (first.status, first.last_error, first.due_at - at) == ("pending", "it answered 500", BACKOFF[0])
    assert deliver_due(platform.space.records, poster, platform.space.secret_key, at + BACKOFF[0] / 2) == []
    at += BACKOFF[0]
    (second,) = deliver_due(platform.space.records, poster, platform.space.secret_key, at)
    assert (second.last_error, second.due_at - at) == ("no answer", BACKOFF[1])
    at += BACKOFF[1]
    (third,) = deliver_due(platform.space.records, poster, platform.space.secret_key, at)
    assert third.last_error == "it answered 302"
    at += BACKOFF[2]
    (last,) = deliver_due(platform.space.records, poster, platform.space.secret_key, at)
    assert (last.status, last.num_attempts, last.last_error) == ("delivered", 4, "")
    assert len({headers["webhook-id"] for _, _, headers in poster.sent}) == 1
    assert len({headers["webhook-timestamp"] for _, _, headers in poster.sent}) == 4


def test_a_message_is_given_up_in_the_end(platform, poster):
    hook(platform)
    queued(platform)
    platform.work()
    poster.answers = [500] * 99
    at = now()
    while platform.space.records.find(Delivery, status=DeliveryStatus.PENDING.value):
        deliver_due(platform.space.records, poster, platform.space.secret_key, at)
        at += timedelta(days=1)
    (given_up,) = platform.space.records.find(Delivery)
    assert (given_up.status, given_up.num_attempts) == ("failed", len(BACKOFF) + 1)


def test_a_message_that_somebody_sends_is_not_sent_by_another_meanwhile(platform):
    hook(platform)
    queued(platform)
    platform.work()
    others: list[list[Delivery]] = []

    class Slow(FakePoster):
        def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
            others.append(deliver_due(platform.space.records, FakePoster(), platform.space.secret_key))
            return super().post(url, body, headers)

    assert [each.status for each in deliver_due(platform.space.records, Slow(), platform.space.secret_key)] == [
        "delivered"
    ]
    assert others == [[]]


def test_a_disabled_webhook_is_told_nothing_and_its_secret_is_shown_once(platform, poster):
    mine = hook(platform)
    queued(platform)
    platform.work()
    disabled = platform.call("POST", f"/v1/webhooks/{mine['id']}/disable")
    assert disabled["disabled_at"]
    platform.call("POST", f"/v1/webhooks/{mine['id']}/disable", status=409)
    queued(platform)
    platform.work()
    assert [each.status for each in deliver_due(platform.space.records, poster, platform.space.secret_key)] == [
        "failed"
    ]
    assert poster.sent == []
    listed = platform.client.get("/v1/webhooks", headers=platform.key("admin")).text
    assert URL in listed
    assert "whsec_" not in listed
    noted = [each["action"] for each in platform.call("GET", "/v1/audit")["items"]]
    assert noted == ["add-webhook", "disable-webhook"]


def test_a_team_has_a_few_webhooks(platform):
    for number in range(10):
        hook(platform, url=f"{URL}/{number}")
    platform.call("POST", "/v1/webhooks", json={"url": URL}, status=409)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "shop.example",
        "ftp://shop.example/",
        "file:///etc/passwd",
        "https://",
        "https://user:word@shop.example/",
        "https://shop.example/#part",
        "https://shop.example:99999/",
        "https://shöp.example/",
        "https://shop.example/a b",
        "https://shop.example/\r\nX: y",
        "https://[::1",
    ],
)
def test_what_is_no_url_for_a_webhook_is_refused(platform, url):
    with pytest.raises(InvalidInput):
        check_url(url, of="a webhook", max_length=500)
    assert platform.call("POST", "/v1/webhooks", json={"url": url}, status=422)["type"] == "/problems/invalid-input"


def test_a_signature_is_that_of_the_standard():
    """The example of the specification of Standard Webhooks."""
    from datetime import UTC, datetime

    secret, body = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", '{"test": 2432232314}'
    at = datetime.fromtimestamp(1614265330, UTC)
    headers = signed_headers(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", at, body)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    rotated = {**headers, "webhook-signature": f"v1,bm8= {headers['webhook-signature']}"}
    check_signature(secret, rotated, body, at + timedelta(minutes=4))
    for wrong in (
        lambda: check_signature(secret, headers, body + " ", at),
        lambda: check_signature("whsec_bm8=", headers, body, at),
        lambda: check_signature(secret, headers, body, at + timedelta(minutes=6)),
        lambda: check_signature(secret, headers, body, at - timedelta(minutes=6)),
        lambda: check_signature(secret, {**headers, "webhook-id": "msg_2"}, body, at),
        lambda: check_signature(secret, {**headers, "webhook-timestamp": "soon"}, body, at),
        lambda: check_signature(secret, {}, body, at),
    ):
        with pytest.raises(SignatureRefused):
            wrong()


def test_networks_that_are_none_are_refused(monkeypatch):
    monkeypatch.setenv("PACKSHOT_WEBHOOK_NETWORKS", "10.0.0.0/8, 127.0.0.1/32")
    assert read_settings().webhook_networks
    monkeypatch.setenv("PACKSHOT_WEBHOOK_NETWORKS", "everything")
    with pytest.raises(InvalidInput, match="PACKSHOT_WEBHOOK_NETWORKS"):
        read_settings()


def test_no_secret_is_kept(platform, poster):
    key = {"headers": {"Idempotency-Key": "once"}}
    made = platform.call("POST", "/v1/webhooks", json={"url": URL}, status=201, **key)
    again = platform.call("POST", "/v1/webhooks", json={"url": URL}, status=201, **key)
    assert again == made
    other = hook(platform)
    assert other["secret"] != made["secret"]
    platform.space.records.close()
    secret = made["secret"].removeprefix("whsec_").encode()
    files = [path for path in platform.space.home.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if secret in path.read_bytes()]
    (key_file,) = [path for path in files if path.name == "secret.key"]
    assert key_file.stat().st_mode & 0o077 == 0


def test_a_secret_that_an_older_version_kept_still_signs(platform, poster):
    older = Webhook(id="whk_old", namespace="acme", url=URL, secret="whsec_b2xkIG9uZQ==", created_at=now())
    platform.space.records.add(older)
    queued(platform)
    platform.work()
    deliver_due(platform.space.records, poster, platform.space.secret_key)
    ((_, body, headers),) = poster.sent
    check_signature(older.secret, headers, body, now())
    assert "secret" not in platform.call("GET", "/v1/webhooks")["items"][0]


def test_a_secret_key_that_was_cut_short_is_reported(tmp_path):
    (tmp_path / "secret.key").write_bytes(b"short")
    with pytest.raises(WorkspaceUnusable, match="5 bytes instead of 32"):
        read_secret_key(tmp_path / "secret.key")
