"""Several trainings at once: who goes with whom, and that each ends on its own."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from packshot.domain.jobs import MAX_ATTEMPTS, Job, JobStatus
from packshot.domain.models import FineTune
from packshot.domain.references import ReferenceImage
from packshot.domain.training_choices import Method
from packshot.domain.usage import Usage
from packshot.domain.webhooks import Delivery
from packshot.services.catalog import now, retire_category
from packshot.services.jobs import Held, cancel, never_stop
from packshot.services.training_groups import run_trainings, see_all_through, work_with_companions
from packshot.services.webhooks import add_webhook
from packshot.services.workers import Worker


@pytest.fixture
def plans(space) -> Callable[..., list[Job]]:
    """Queued trainings, one for each given configuration, of a category each."""

    def make(*configs: dict[str, Any]) -> list[Job]:
        categories = [space.category(f"kind-{number}", start=50 * number) for number in range(len(configs))]
        return [space.plan(category, **config).job for category, config in zip(categories, configs, strict=True)]

    return make


@pytest.fixture
def train_group(space) -> Callable[[Sequence[Held]], None]:
    def train(held: Sequence[Held]) -> None:
        run_trainings(
            held,
            space.records,
            space.blobs,
            space.trainer,
            code_revision=space.code_revision,
            workdir=space.folder / "runs",
            cachedir=space.folder / "cache",
            judge=lambda: space.judge,
        )

    return train


@pytest.fixture
def see(space, train_group) -> Callable[..., list[Job]]:
    def run(jobs: Sequence[Job], group_size: int = 8, **options: Any) -> list[Job]:
        ids = [job.id for job in jobs]
        given = {"watch": lambda _: None, "poll_s": 0.01, "tidy": space.tidy, **options}
        return see_all_through(space.records, space.handlers, train_group, group_size, ids, **given)

    return run


def sizes(space) -> list[int]:
    return [len(group) for group in space.trainer.groups]


def test_trainings_of_one_base_are_carried_out_together_each_with_its_own_records(space, plans, see):
    jobs = see(plans({}, {"method": Method.LORA}, {"seed": 3, "steps": 5}))
    assert [job.status for job in jobs] == [JobStatus.SUCCEEDED] * 3
    assert sizes(space) == [3]
    fine_tunes = space.records.find(FineTune)
    assert len({each.training_run_id for each in fine_tunes}) == len({each.category_id for each in fine_tunes}) == 3
    assert not list((space.folder / "runs").glob("*"))


@pytest.mark.parametrize(
    "changes",
    [
        {"method": Method.FULL},
        {"gradient_checkpointing": True},
        {"use_dora": True},
        {"mixed_precision": "bf16"},
        {"gradient_accumulation_steps": 2},
    ],
)
def test_what_does_not_go_together_is_trained_one_after_another(space, plans, see, changes):
    assert {job.status for job in see(plans({}, changes))} == {JobStatus.SUCCEEDED}
    assert sizes(space) == []
    assert len(space.records.find(FineTune)) == 2


def test_a_group_is_no_larger_than_asked(space, plans, see):
    see(plans({}, {}, {}), group_size=2)
    assert sizes(space) == [2]
    assert len(space.records.find(FineTune)) == 3


def test_one_that_fails_does_not_stop_the_others(space, plans, see):
    jobs = plans({}, {}, {})
    image = next(each for each in space.records.find(ReferenceImage) if each.image)
    space.blobs.damage(image.image)
    retire_category(space.records, "produce/apple/kind-1")
    ended = see(jobs)
    assert [job.status for job in ended] == [JobStatus.FAILED, JobStatus.FAILED, JobStatus.SUCCEEDED]
    assert "damaged" in ended[0].message
    assert "kind-1 was retired" in ended[1].message


def test_what_fails_the_whole_group_fails_those_that_have_not_ended(space, plans, see, monkeypatch):
    def fail(members):
        with members[0].own():
            members[0].finish(space.trainer.train(members[0].task, report=members[0].report, stop=never_stop))
        raise RuntimeError("no memory")

    monkeypatch.setattr(space.trainer, "train_together", fail)
    ended = see(plans({}, {}))
    assert [job.status for job in ended] == [JobStatus.SUCCEEDED, JobStatus.FAILED]
    assert ended[1].message == "RuntimeError: no memory"


def test_an_interrupted_group_waits_in_the_queue_and_goes_on(space, plans, see):
    jobs = plans({}, {})
    stopped: list[int] = []
    space.trainer.before_step = lambda step: stopped.append(step) if step == 2 else None
    halted = see(jobs, stop=lambda: bool(stopped))
    assert [job.status for job in halted] == [JobStatus.QUEUED] * 2
    space.trainer.before_step = lambda _: None
    assert [job.status for job in see(jobs)] == [JobStatus.SUCCEEDED] * 2
    assert [job.attempt for job in see(jobs)] == [2, 2]


def test_a_canceled_member_leaves_the_group(space, plans, see):
    jobs = plans({}, {})
    space.trainer.before_step = lambda step: cancel(space.records, jobs[1].id) if step == 1 else None
    ended = see(jobs)
    assert [job.status for job in ended] == [JobStatus.SUCCEEDED, JobStatus.CANCELED]
    assert len(space.records.find(FineTune)) == 1


def work(space, train_group, group_size) -> list[Job]:
    """What a worker does in one turn."""

    def otherwise(job: Job) -> list[Job]:
        return work_with_companions(space.records, space.handlers, train_group, group_size, job)

    with Worker(records=space.records, handlers=space.handlers, otherwise=otherwise, num_at_once=1) as worker:
        return worker.work() or []


def test_a_worker_takes_what_waits_and_goes_together(space, plans, train_group):
    plans({}, {"method": Method.FULL}, {})

    def statuses() -> list[JobStatus]:
        return [job.status for job in work(space, train_group, 8)]

    assert [statuses(), statuses(), statuses()] == [[JobStatus.SUCCEEDED] * 2, [JobStatus.SUCCEEDED], []]
    assert sizes(space) == [2]


def test_the_last_attempt_at_a_job_is_made_alone(space, plans, see):
    jobs = plans({}, {}, {})
    space.records.replace(replace(jobs[1], failures=MAX_ATTEMPTS - 1))
    assert {job.status for job in see(jobs)} == {JobStatus.SUCCEEDED}
    assert sizes(space) == [2]


def test_jobs_whose_leases_run_out_one_after_another_are_waited_for(space, plans, see):
    jobs = plans({}, {})
    for number, job in enumerate(jobs):
        space.records.claim("dead:1", now(), timedelta(seconds=0.05 + 0.1 * number), job_id=job.id)
    watched: list[str] = []
    ended = see(jobs, watch=lambda job: watched.append(job.worker))
    assert [job.status for job in ended] == [JobStatus.SUCCEEDED] * 2
    assert sizes(space) == [2]
    assert set(watched) == {"dead:1"}


def test_every_member_has_its_own_usage_also_one_that_left_early(space, plans, see):
    jobs = plans({}, {"steps": 5}, {})
    space.trainer.before_step = lambda step: cancel(space.records, jobs[2].id) if step == 1 else None
    see(jobs)
    noted = {each.job_id: each for each in space.records.find(Usage)}
    assert len(space.records.find(Usage)) == len(noted) == 3
    assert [noted[job.id].status for job in jobs] == [JobStatus.SUCCEEDED, JobStatus.SUCCEEDED, JobStatus.CANCELED]
    assert [noted[job.id].num_steps for job in jobs[:2]] == [3, 5]
    assert len({each.category_id for each in noted.values()}) == 3


def test_members_share_the_seconds_of_their_group(space, plans, see, monkeypatch):
    at = [0.0]
    monkeypatch.setattr("packshot.services.jobs.time.monotonic", lambda: at[0])

    def together(members):
        at[0] += 12
        with members[0].own():
            members[0].finish(space.trainer.train(members[0].task, report=members[0].report, stop=never_stop))
        at[0] += 4
        raise RuntimeError("no memory")

    monkeypatch.setattr(space.trainer, "train_together", together)
    jobs = plans({}, {}, {})
    see(jobs)
    seconds = {each.job_id: each.seconds for each in space.records.find(Usage)}
    assert [seconds[job.id] for job in jobs] == [4, 6, 6]


def test_a_group_is_of_the_namespace_whose_turn_it_is(space, plans, train_group):
    jobs = plans({}, {}, {}, {})
    for job, namespace in zip(jobs, ("b", "a", "b", "a"), strict=True):
        space.records.replace(replace(job, namespace=namespace))

    def ids() -> list[str]:
        return [job.id for job in work(space, train_group, 8)]

    assert [ids(), ids(), ids()] == [[jobs[1].id, jobs[3].id], [jobs[0].id, jobs[2].id], []]
    assert sizes(space) == [2, 2]


def test_a_higher_priority_goes_along_first(space, plans, train_group):
    jobs = plans({}, {}, {})
    for job, priority in zip(jobs, (9, 0, 5), strict=True):
        space.records.replace(replace(job, priority=priority))
    assert [job.id for job in work(space, train_group, 2)] == [jobs[0].id, jobs[2].id]


def test_what_workers_died_on_is_announced_by_the_worker_that_finds_it(space, plans, train_group):
    (job,) = plans({})
    add_webhook(space.records, job.namespace, "https://example.com/ends")
    dead = {"status": JobStatus.RUNNING, "failures": MAX_ATTEMPTS - 1, "lease_expires_at": now()}
    space.records.replace(replace(job, **dead))
    assert work(space, train_group, 8) == []
    assert [each.event for each in space.records.find(Delivery)] == ["job.failed"]
