"""Jobs over HTTP, and their progress as server-sent events to a client that comes, goes and comes back."""

import json
import threading

import httpx2
import pytest
from api import IDENTIFIER, PROMPT
from fastapi import routing

from packshot import Client
from packshot.domain.errors import JobFailed, NotFound, ServerUnusable
from packshot.domain.jobs import Job, JobStatus
from packshot.services.jobs import cancel


@pytest.fixture
def queued(platform):
    """A training that waits."""
    platform.frozen()
    body = {"category": IDENTIFIER, "config": {"steps": 3}}
    return platform.call("POST", "/v1/trainings", json=body, status=202)


def listen(platform, url, *, last="", limit=None, after_first=lambda: None):
    """The events of a stream as (id, data), until it ends or ``limit`` are there; and its comments."""
    headers = {**platform.key("read"), **({"Last-Event-ID": last} if last else {})}
    events, comments, event_id = [], [], ""
    with platform.client.stream("GET", url, headers=headers) as reply:
        assert reply.status_code == 200
        assert reply.headers["content-type"].startswith("text/event-stream")
        data = None
        for line in reply.iter_lines():
            if line.startswith(":"):
                comments.append(line)
            elif line.startswith("id: "):
                event_id = line.removeprefix("id: ")
            elif line.startswith("data: "):
                data = json.loads(line.removeprefix("data: "))
            elif not line and data is not None:
                events.append((event_id, data))
                data = None
                if len(events) == 1:
                    after_first()
                if len(events) == limit:
                    break
    return events, comments


def test_a_job_of_any_kind_is_told_of(platform):
    platform.serving()
    asked = platform.call("POST", "/v1/generations", json={"prompt": PROMPT}, status=202)
    (waiting,) = platform.call("GET", "/v1/jobs", params={"status": "queued"})["items"]
    assert (waiting["kind"], waiting["subject_id"], waiting["progress"]) == ("generation", asked["id"], 0.0)
    assert waiting["id"] == asked["job_id"]
    assert waiting["urls"]["subject"] == asked["urls"]["get"]
    assert waiting["urls"]["cancel"] == asked["urls"]["cancel"]
    platform.work()
    done = platform.call("GET", waiting["urls"]["get"])
    assert (done["status"], done["attempt"]) == ("succeeded", 1)
    listed = platform.call("GET", "/v1/jobs")["items"]
    assert [each["kind"] for each in listed] == ["training", "generation"]
    platform.call("GET", "/v1/jobs", params={"status": "dancing"}, status=422)


def test_events_end_with_the_job(platform, queued):
    url = f"/v1/jobs/{queued['job_id']}/events"
    work = threading.Thread(target=platform.work)
    events, _ = listen(platform, url, after_first=work.start)
    work.join()
    assert events[0][1]["status"] == "queued"
    assert events[-1][1] == platform.call("GET", f"/v1/jobs/{queued['job_id']}")
    assert events[-1][1]["status"] == "succeeded"
    ids = [event_id for event_id, _ in events]
    assert len(set(ids)) == len(ids)


def test_whoever_comes_back_is_told_nothing_twice(platform, queued):
    url = queued["urls"]["events"]
    ((first, _),), _ = listen(platform, url, limit=1)
    platform.work()
    later, _ = listen(platform, url, last=first)
    assert [data["status"] for _, data in later] == ["succeeded"]
    assert listen(platform, url, last=later[-1][0]) == ([], [])
    assert listen(platform, url, last="another server's id")[0] == later


def test_a_cancellation_ends_the_stream(platform, queued):
    ended = threading.Thread(target=lambda: cancel(platform.space.records, queued["job_id"]))
    events, _ = listen(platform, queued["urls"]["events"], after_first=ended.start)
    ended.join()
    assert [data["status"] for _, data in events] == ["queued", "canceled"]


def test_silence_is_filled_with_comments(platform, queued, monkeypatch):
    monkeypatch.setattr(routing, "_PING_INTERVAL", 0.01)
    ended = threading.Timer(0.3, lambda: cancel(platform.space.records, queued["job_id"]))
    _, comments = listen(platform, queued["urls"]["events"], after_first=ended.start)
    ended.join()
    assert ": ping" in comments


# the client


@pytest.fixture
def client(platform):
    platform.key("admin")
    return Client(key=platform.keys["acme", "admin"], http=platform.client)


def test_the_client_watches_a_job_to_its_end(platform, client, queued):
    work = threading.Thread(target=platform.work)
    seen = []

    def report(state):
        seen.append(state)
        if len(seen) == 1:
            work.start()

    done = client.watch(queued["job_id"], report=report)
    work.join()
    assert done == seen[-1] == client.job(queued["job_id"])
    assert client.watch_training(queued["id"]).fine_tune_id == client.fine_tunes(IDENTIFIER)[0].id
    assert [each.id for each in client.jobs("succeeded")] == [queued["job_id"]]


def test_the_client_raises_what_a_job_ended_with(client, queued):
    assert client.cancel_job(queued["job_id"]).status is JobStatus.CANCELED
    with pytest.raises(JobFailed, match="canceled on request"):
        client.watch(queued["job_id"])
    with pytest.raises(NotFound):
        client.watch("job_nothing")


def test_the_client_goes_on_where_a_broken_stream_ended(platform, queued, monkeypatch):
    asked = []

    class Cut(httpx2.SyncByteStream):
        """The beginning of a stream, and a broken connection."""

        def __iter__(self):
            reply = platform.client.get(f"/v1/jobs/{queued['job_id']}", headers=platform.key("read"))
            yield f"data: {reply.text}\nid: first\n\n".encode()
            raise httpx2.ReadError("cut")

    def answer(request):
        asked.append(request.headers.get("last-event-id"))
        if len(asked) == 1:
            return httpx2.Response(200, headers={"Content-Type": "text/event-stream"}, stream=Cut())
        platform.work()
        reply = platform.client.get(request.url.path, headers=dict(request.headers))
        return httpx2.Response(reply.status_code, headers=reply.headers, content=reply.content)

    monkeypatch.setattr("time.sleep", lambda _: None)
    platform.key("admin")
    http = httpx2.Client(base_url="http://server", transport=httpx2.MockTransport(answer))
    seen = []
    Client(key=platform.keys["acme", "admin"], http=http).watch(queued["job_id"], report=seen.append)
    assert asked == [None, "first"]
    assert [state.status for state in seen] == [JobStatus.QUEUED, JobStatus.SUCCEEDED]


@pytest.mark.parametrize(
    "reply",
    [
        httpx2.Response(200, headers={"Content-Type": "text/event-stream"}),
        httpx2.Response(200, headers={"Content-Type": "text/event-stream"}, content=b"data: {}\n\n"),
        httpx2.Response(200, text="<html>"),
        httpx2.Response(404, text="<html>"),
    ],
    ids=["silent", "another", "page", "missing"],
)
def test_a_server_that_tells_nothing_is_reported(reply, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    http = httpx2.Client(base_url="http://server", transport=httpx2.MockTransport(lambda _: reply))
    with pytest.raises(ServerUnusable):
        Client(http=http).watch("job_1")


def test_jobs_of_another_team_do_not_exist(platform, queued):
    rival = platform.key("admin", team="rival")
    platform.call("GET", f"/v1/jobs/{queued['job_id']}", key=rival, status=404)
    assert platform.call("GET", "/v1/jobs", key=rival)["items"] == []
    assert len(platform.space.records.find(Job)) == 1
