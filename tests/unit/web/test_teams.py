"""Fair use between teams: rates, quotas, turns; who did what; what it cost."""

import pytest
from api import IDENTIFIER, PROMPT, platform_in

from packshot.domain.access import AuditAction, AuditEntry
from packshot.domain.jobs import Job, JobStatus
from packshot.domain.usage import Usage
from packshot.services.catalog import add_category
from packshot.services.jobs import work_on_one
from packshot.services.limits import RequestRates, set_quota
from packshot.services.models import register_base
from packshot.services.usage import report_usage


def ask(platform, team: str = "acme", **body: object):
    return platform.client.post(
        "/v1/generations", json={"prompt": "plain", **body}, headers=platform.key("generate", team=team)
    )


@pytest.fixture
def bare(platform):
    """A server where prompts go to a base."""
    register_base(platform.space.records, platform.space.bases.describe("embedded"))
    return platform


def quota(platform, team: str = "acme", *, requests: int | None = None, jobs: int | None = None) -> None:
    set_quota(platform.space.records, team, requests_per_minute=requests, max_unfinished_jobs=jobs)


def test_a_flood_stops_at_the_quota_and_starves_nobody(bare):
    """Fault 25, in short."""
    quota(bare, jobs=20)
    replies = [ask(bare, seed=number) for number in range(30)]
    assert [reply.status_code for reply in replies] == [202] * 20 + [429] * 10
    refused = replies[-1]
    assert refused.json()["type"] == "/problems/quota-exceeded"
    assert "acme has 20 unfinished jobs and may have 20" in refused.json()["detail"]
    assert int(refused.headers["retry-after"]) > 0
    assert work_on_one(bare.space.records, bare.space.handlers)
    mine = ask(bare, team="rival")
    assert mine.status_code == 202
    done = [work_on_one(bare.space.records, bare.space.handlers) for _ in range(2)]
    assert mine.json()["id"] in [job.subject_id for job in done if job]


def test_there_is_room_again_when_jobs_have_ended_or_were_canceled(bare):
    quota(bare, jobs=2)
    first = ask(bare).json()
    ask(bare)
    assert ask(bare).status_code == 429
    bare.call("POST", first["urls"]["cancel"])
    assert [ask(bare).status_code, ask(bare).status_code] == [202, 429]
    bare.work()
    assert ask(bare).status_code == 202


def test_a_training_counts_too_and_the_same_request_again_does_not(platform):
    platform.frozen()
    quota(platform, jobs=1)
    body = {"category": IDENTIFIER, "config": {"steps": 3}}
    first = platform.call("POST", "/v1/trainings", json=body, status=202)
    assert platform.call("POST", "/v1/trainings", json=body, status=202)["id"] == first["id"]
    other = platform.call("POST", "/v1/trainings", json={**body, "config": {"steps": 4}}, status=429)
    assert other["type"] == "/problems/quota-exceeded"
    assert len(platform.space.records.find(Job)) == 1


def test_a_reply_that_was_given_is_given_again_at_the_quota(bare):
    quota(bare, jobs=1)
    headers = {**bare.key("generate"), "Idempotency-Key": "1"}
    replies = [bare.client.post("/v1/generations", json={"prompt": "plain"}, headers=headers) for _ in range(2)]
    assert [reply.status_code for reply in replies] == [202, 202]
    assert replies[0].content == replies[1].content


def test_priority_orders_the_jobs_of_a_team(platform):
    platform.serving()
    low, high = (ask(platform, seed=number, priority=number - 1).json()["id"] for number in (0, 2))
    training = platform.call(
        "POST", "/v1/trainings", json={"category": IDENTIFIER, "config": {"steps": 5}, "priority": 9}, status=202
    )
    order = []
    while job := work_on_one(platform.space.records, platform.space.handlers):
        order.append(job.subject_id)
    assert order == [training["id"], high, low]
    assert ask(platform, priority=10).status_code == 422


def test_a_key_that_is_too_fast_is_told_when_to_come_again(platform):
    quota(platform, requests=3)
    statuses = [platform.client.get("/v1/bases", headers=platform.key("read")).status_code for _ in range(4)]
    assert statuses == [200, 200, 200, 429]
    refused = platform.client.get("/v1/bases", headers=platform.key("read"))
    assert refused.json()["type"] == "/problems/rate-limited"
    assert 1 <= int(refused.headers["retry-after"]) <= 20
    assert platform.client.get("/v1/bases", headers=platform.key("train")).status_code == 200
    assert platform.client.get("/v1/bases", headers=platform.key("read", team="rival")).status_code == 200


def test_permits_come_back_steadily_up_to_a_minute_s():
    clock = [0.0]
    rates = RequestRates(lambda: clock[0])

    def takes(count: int) -> int:
        from packshot.domain.errors import RateLimited

        for number in range(count):
            try:
                rates.take("key", 60)
            except RateLimited as error:
                assert error.retry_after_s == 1
                return number
        return count

    assert takes(100) == 60
    clock[0] += 2.5
    assert takes(100) == 2
    clock[0] += 0.5
    assert takes(100) == 1
    clock[0] += 3600
    assert takes(100) == 60


# who did what


def test_deeds_are_noted_with_who_and_why_and_only_if_they_were_done(platform):
    fine_tune_id = platform.serving()
    path = f"/v1/categories/{IDENTIFIER}"
    platform.call("POST", f"{path}/alias/promote", json={"fine_tune_id": fine_tune_id}, status=409)
    newer = platform.train(seed=4)["fine_tune_id"]
    platform.call("POST", f"{path}/alias/promote", json={"fine_tune_id": newer, "reason": "again"})
    platform.call("POST", f"{path}/alias/rollback", json={"reason": "pale"}, headers={"X-Request-Id": "r-9"})
    platform.call("POST", f"{path}/retire")
    platform.call("POST", f"{path}/retire", status=409)
    page = platform.call("GET", "/v1/audit", params={"limit": 2})
    told = page["items"] + platform.call("GET", "/v1/audit", params={"cursor": page["next"]})["items"]
    assert [(each["action"], each["subject"], each["reason"]) for each in told] == [
        ("promote", "apple/fuji@1", "a test"),
        ("promote", "apple/fuji@2", "again"),
        ("rollback", "apple/fuji", "pale"),
        ("retire", "apple/fuji", ""),
    ]
    assert all(each["actor"].startswith("key_") and each["actor"].endswith(" (test)") for each in told)
    assert told[2]["request_id"] == "r-9"
    chosen = platform.call("GET", "/v1/audit", params={"action": "retire"})["items"]
    assert [each["action"] for each in chosen] == ["retire"]
    platform.call("GET", "/v1/audit", params={"action": "dance"}, status=422)
    assert platform.call("GET", "/v1/audit", key=platform.key("admin", team="rival"))["items"] == []
    assert {each.action for each in platform.space.records.find(AuditEntry)} == {
        AuditAction.PROMOTE,
        AuditAction.ROLLBACK,
        AuditAction.RETIRE,
    }


def test_whoever_is_on_this_machine_is_noted_so(dev_platform):
    platform = dev_platform("127.0.0.1")
    headers = {"Host": "localhost"}
    add_category(platform.space.records, path="a/b", class_noun="apple")
    platform.client.post("/v1/categories/sks_b_apple/retire", headers=headers)
    assert [each.actor for each in platform.space.records.find(AuditEntry)] == ["this machine"]


# what it cost


def test_usage_sums_pictures_steps_and_seconds_per_category(platform):
    platform.serving()
    for prompt, count in ((PROMPT, 2), (PROMPT, 1), ("plain", 4)):
        body = {"prompt": prompt, "num_images": count}
        platform.call("POST", "/v1/generations", json=body, status=202)
    platform.work()
    report = platform.call("GET", "/v1/usage")
    rows = {each["category"]: each["usage"] for each in report["categories"]}
    assert {name: (row["num_images"], row["num_steps"]) for name, row in rows.items()} == {
        None: (4, 0),
        IDENTIFIER: (3, 3),
    }
    assert all(row["seconds"] > 0 for row in rows.values())
    assert 0 < rows[IDENTIFIER]["training_seconds"] < rows[IDENTIFIER]["seconds"]
    assert rows[None]["training_seconds"] == 0
    assert report["total"]["training_seconds"] == rows[IDENTIFIER]["training_seconds"]
    assert (report["total"]["num_images"], report["total"]["num_steps"]) == (7, 3)
    later = platform.call("GET", "/v1/usage", params={"since": "2999-01-01T00:00:00Z"})
    assert (later["categories"], later["total"]["num_images"]) == ([], 0)
    earlier = platform.call("GET", "/v1/usage", params={"until": "2001-01-01T00:00:00Z"})
    assert (earlier["categories"], earlier["namespaces"], earlier["total"]["num_images"]) == ([], [], 0)
    both = platform.call("GET", "/v1/usage", params={"since": "2001-01-01T00:00:00Z", "until": "2999-01-01T00:00:00Z"})
    assert (both["categories"], both["total"]) == (report["categories"], report["total"])
    platform.call("GET", "/v1/usage", params={"since": "2999-01-01"}, status=422)
    rival = platform.call("GET", "/v1/usage", key=platform.key("read", team="rival"))
    assert (rival["categories"], rival["total"]["seconds"]) == ([], 0)
    priced = report_usage(platform.space.records, price_per_hour=36.0)
    assert priced.total.cost == pytest.approx(priced.total.seconds / 100)
    assert [each.namespace for each in priced.namespaces] == ["acme"]
    assert priced.namespaces[0].usage == priced.total


def test_each_team_has_its_sum(platform):
    platform.serving()
    ask(platform, num_images=2)
    platform.call("POST", "/v1/generations", json={"prompt": "plain"}, status=202, key=platform.key("admin", team="b"))
    platform.work()
    report = report_usage(platform.space.records, price_per_hour=1.0)
    assert [(each.namespace, each.path) for each in report.categories] == [
        ("acme", None),
        ("acme", "apple/fuji"),
        ("b", None),
    ]
    assert [(each.namespace, each.usage.num_images) for each in report.namespaces] == [("acme", 2), ("b", 1)]
    assert sum(each.usage.cost for each in report.namespaces) == pytest.approx(report.total.cost)
    own = platform.call("GET", "/v1/usage")
    assert [each["namespace"] for each in own["namespaces"]] == ["acme"]


def test_attempts_that_failed_cost_time_and_give_nothing(bare):
    bare.space.generator.failure = ZeroDivisionError("by surprise")
    ask(bare, num_images=3)
    bare.work()
    assert [job.status for job in bare.space.records.find(Job)] == [JobStatus.FAILED]
    total = bare.call("GET", "/v1/usage")["total"]
    assert total["num_images"] == 0
    assert total["seconds"] > 0


def test_the_settings_are_the_quota_of_whoever_has_none(tmp_path):
    for platform in platform_in(tmp_path, max_unfinished_jobs=1, requests_per_minute=5):
        register_base(platform.space.records, platform.space.bases.describe("embedded"))
        assert [ask(platform).status_code for _ in range(6)] == [202, 429, 429, 429, 429, 429]
        assert ask(platform).json()["type"] == "/problems/rate-limited"


def test_every_route_that_queues_jobs_counts_against_the_quota_and_is_the_teams_own(platform):
    fine_tune_id = platform.serving()
    platform.call("POST", "/v1/templates", json={"name": "plain"}, status=201)
    asked = {
        "/v1/batches": {"categories": [IDENTIFIER], "templates": ["plain"], "priority": 2},
        "/v1/evaluations": {"fine_tune_id": fine_tune_id, "images_per_scene": 1, "priority": 2},
        "/v1/trainings": {"category": IDENTIFIER, "config": {"steps": 4}, "priority": 2},
        "/v1/generations": {"prompt": PROMPT, "priority": 2},
    }
    quota(platform, jobs=len(asked))
    first = {path: platform.call("POST", path, json=body, status=202)["id"] for path, body in asked.items()}
    waiting = platform.space.records.find(Job, status=JobStatus.QUEUED)
    assert [(job.namespace, job.priority) for job in waiting] == [("acme", 2)] * len(asked)
    del asked["/v1/generations"]  # asked for again, it is another
    for path, body in asked.items():
        assert platform.call("POST", path, json=body, status=202)["id"] == first[path]
        other = {"config": {"steps": 5}} if "config" in body else {"seed": 5}
        assert platform.call("POST", path, json=body | other, status=429)["type"] == "/problems/quota-exceeded"
    platform.work()
    assert {each.job_id for each in platform.space.records.find(Usage)} == {
        job.id for job in platform.space.records.find(Job)
    }
    (row,) = platform.call("GET", "/v1/usage")["categories"]
    assert (row["category"], row["usage"]["num_images"], row["usage"]["num_steps"]) == (IDENTIFIER, 2, 7)
