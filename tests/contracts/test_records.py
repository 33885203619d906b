"""What every implementation of Records must do."""

import math
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from at_once import at_once
from contracts import examples
from contracts.examples import (
    BASE,
    CATEGORY,
    DELIVERY,
    ENGINE_WORK,
    EVALUATION,
    EVENT,
    EVERYTHING,
    FAILURE,
    FINE_TUNE,
    GENERATED,
    GENERATION,
    IMAGE,
    JOB,
    KEY,
    NOW,
    PLAIN_IMAGE,
    REPLY,
    RUN,
    SET,
    TEMPLATE,
    USAGE,
    WEBHOOK,
)
from databases import new_database
from fakes import InMemoryRecords
from postgres import name_in
from queue_processes import CREATOR, QUEUE_WORKER, SPELLINGS, run_processes
from sqlalchemy import Engine, event

from packshot.domain import jobs
from packshot.domain.batches import ItemFailure
from packshot.domain.catalog import Category
from packshot.domain.errors import CategoryExists, Conflict, IdentifierTaken, InvalidInput, NotFound, StaleAttempt
from packshot.domain.evaluation import Evaluation
from packshot.domain.generation import GeneratedImage, Generation
from packshot.domain.jobs import MAX_ATTEMPTS, Job, JobStatus
from packshot.domain.models import AliasEvent
from packshot.domain.references import ReferenceImage, ReferenceSet
from packshot.domain.templates import Scene
from packshot.domain.training import TrainingRun
from packshot.domain.usage import Usage
from packshot.ports import Record, Records, Search
from packshot.storage.records import SqlRecords

LEASE = timedelta(minutes=1)
QUEUED = Job(id="queued-1", kind=JOB.kind, subject_id="run-9", created_at=NOW)


def other_category(number: int) -> Category:
    return replace(CATEGORY, id=f"category-{number}", path=f"produce/kind-{number}", identifier=f"sks_kind{number}_x")


class RecordsContract:
    @pytest.fixture
    def records(self, tmp_path: Path) -> Iterator[Records]:
        raise NotImplementedError

    # reading and writing

    @pytest.mark.parametrize("record", EVERYTHING, ids=lambda record: record.id)
    def test_every_record_comes_back_equal(self, records: Records, record: Record) -> None:
        records.add(*EVERYTHING)
        assert records.get(type(record), record.id) == record
        assert record in records.find(type(record))

    def test_times_keep_their_instant_and_a_zone(self, records: Records) -> None:
        records.add(CATEGORY)
        read = records.get(Category, CATEGORY.id)
        assert (read.created_at, read.retired_at) == (CATEGORY.created_at, CATEGORY.retired_at)
        assert read.created_at.tzinfo is not None

    def test_a_score_that_is_not_a_number_stays_one(self, records: Records) -> None:
        records.add(*EVERYTHING)
        records.add(
            replace(EVALUATION, id="evaluation-nan", real_fidelity=math.nan, fine_tune=examples.scores(math.inf))
        )
        read = records.get(Evaluation, "evaluation-nan")
        assert math.isnan(read.real_fidelity)
        assert read.fine_tune.subject_fidelity == math.inf

    def test_what_is_missing_is_not_found(self, records: Records) -> None:
        with pytest.raises(NotFound, match="category-1"):
            records.get(Category, CATEGORY.id)
        assert records.find(Category) == []

    def test_an_id_belongs_to_its_kind(self, records: Records) -> None:
        records.add(CATEGORY)
        with pytest.raises(NotFound):
            records.get(Job, CATEGORY.id)

    def test_find_keeps_the_order_of_creation(self, records: Records) -> None:
        numbers = [7, 3, 11, 5, 2]
        for number in numbers[:3]:
            records.add(other_category(number))
        records.add(*map(other_category, numbers[3:]))
        records.replace(replace(other_category(3), retired_at=None))
        assert [category.id for category in records.find(Category)] == [f"category-{number}" for number in numbers]

    def test_find_compares_every_given_field(self, records: Records) -> None:
        records.add(*EVERYTHING)
        assert records.find(AliasEvent, category_id=CATEGORY.id, number=4) == [EVENT]
        assert records.find(AliasEvent, category_id=CATEGORY.id, number=5) == []
        assert records.find(Job, status=JobStatus.RUNNING) == [JOB]
        assert records.find(Category, namespace="SKS") == []

    def test_find_compares_with_none(self, records: Records) -> None:
        records.add(*EVERYTHING)
        assert records.find(Generation, fine_tune_id=None) == [
            examples.BARE_GENERATION,
            examples.FOREIGN_GENERATION,
            examples.COMPOSED_GENERATION,
        ]
        assert records.find(Generation, base_id=None) == [examples.FOREIGN_GENERATION]
        assert records.find(GeneratedImage, seed=None) == [examples.FOREIGN_IMAGE]
        assert records.find(Generation, job_id=None) == [
            examples.BARE_GENERATION,
            examples.FOREIGN_GENERATION,
            examples.COMPOSED_GENERATION,
        ]
        assert records.find(ReferenceImage, refusal=None) == [PLAIN_IMAGE]

    def test_find_takes_one_of_several_values(self, records: Records) -> None:
        records.add(*map(other_category, range(5)))
        found = records.find(Category, id=["category-3", "category-1", "nobody"], namespace=["sks", "acme"])
        assert [category.id for category in found] == ["category-1", "category-3"]
        assert records.find(Category, id=[]) == []

    def test_find_reads_a_list_in_parts_that_miss_nothing(self, records: Records) -> None:
        for number in (7, 3, 11, 5, 2):
            records.add(other_category(number))
        records.add(replace(other_category(1), namespace="other"))
        for order in ((), ("path",), ("class_noun", "path")):
            whole = records.find(Category, order=order, namespace="sks")
            assert len(whole) == 5
            parts: list[Category] = []
            while part := records.find(
                Category, order=order, after=parts[-1].id if parts else None, limit=2, namespace="sks"
            ):
                assert len(part) <= 2
                parts += part
            assert parts == whole
        assert [each.path for each in records.find(Category, order=("path",), namespace="sks")] == [
            f"produce/kind-{number}" for number in (11, 2, 3, 5, 7)
        ]

    def test_names_sort_by_their_characters(self, records: Records) -> None:
        paths = ["a/b", "a-b", "a/B", "ab", "a/b/c", "B"]
        for number, path in enumerate(paths):
            records.add(replace(other_category(number), path=path))
        assert [each.path for each in records.find(Category, order=("path",))] == sorted(paths)

    def test_a_list_goes_on_behind_what_is_added_meanwhile(self, records: Records) -> None:
        records.add(other_category(1), other_category(2))
        (first,) = records.find(Category, limit=1)
        records.add(other_category(0))
        assert [each.id for each in records.find(Category, after=first.id)] == ["category-2", "category-0"]

    def test_find_gives_the_newest_first_and_goes_on_behind_them(self, records: Records) -> None:
        records.add(*map(other_category, [7, 3, 11, 5]))
        newest = records.find(Category, newest_first=True, limit=2)
        assert [each.id for each in newest] == ["category-5", "category-11"]
        rest = records.find(Category, newest_first=True, after=newest[-1].id)
        assert [each.id for each in rest] == ["category-3", "category-7"]
        assert [each.path for each in records.find(Category, order=("path",), newest_first=True)] == sorted(
            (each.path for each in records.find(Category)), reverse=True
        )

    def test_a_list_goes_on_behind_its_own_records_alone(self, records: Records) -> None:
        records.add(other_category(1), replace(other_category(2), namespace="other"))
        for stranger in ("nobody", "category-2"):
            with pytest.raises(NotFound, match=stranger):
                records.find(Category, after=stranger, namespace="sks")

    def test_find_searches_in_whatever_case(self, records: Records) -> None:
        records.add(other_category(1), replace(other_category(2), path="x/100%_y"))
        for text, found in (("KIND-1", [1]), ("0%_", [2]), ("d%1", []), ("apple", [1, 2]), ("sks_kind2", [2])):
            search = Search(text=text, fields=("path", "class_noun", "identifier"))
            assert [each.id for each in records.find(Category, search=search)] == [f"category-{n}" for n in found]

    def test_find_leaves_out_what_was_created_before(self, records: Records) -> None:
        records.add(CATEGORY, replace(other_category(2), created_at=CATEGORY.created_at + LEASE))
        assert [each.id for each in records.find(Category, since=CATEGORY.created_at + LEASE)] == ["category-2"]

    @pytest.mark.parametrize("record", [RUN, FINE_TUNE, EVALUATION, examples.EVALUATION_RUN], ids=lambda each: each.id)
    def test_what_has_no_namespace_is_in_that_of_its_category(self, records: Records, record: Record) -> None:
        records.add(*EVERYTHING)
        assert record in records.find(type(record), namespace=CATEGORY.namespace)
        assert records.find(type(record), namespace="other") == []

    def test_find_gives_each_set_its_own_images(self, records: Records) -> None:
        later = replace(SET, id="set-2", version=4, image_ids=(IMAGE.id,), held_out_ids=())
        records.add(CATEGORY, IMAGE, PLAIN_IMAGE, SET, later)
        assert records.find(ReferenceSet) == [SET, later]
        assert records.find(ReferenceSet, version=4) == [later]

    def test_replace_writes_anew(self, records: Records) -> None:
        records.add(CATEGORY, IMAGE, JOB, KEY, WEBHOOK, DELIVERY, ENGINE_WORK)
        for changed in (
            replace(ENGINE_WORK, totals=ENGINE_WORK.totals + ENGINE_WORK.totals),
            replace(WEBHOOK, disabled_at=None),
            replace(DELIVERY, num_attempts=4, due_at=NOW),
            replace(KEY, revoked_at=None),
            replace(CATEGORY, retired_at=None, class_noun="fruit"),
            replace(IMAGE, refusal=None, caption=""),
            replace(JOB, status=JobStatus.SUCCEEDED, lease_expires_at=None),
        ):
            records.replace(changed)
            assert records.get(type(changed), changed.id) == changed

    @pytest.mark.parametrize("record", [CATEGORY, IMAGE, JOB, KEY], ids=lambda record: record.id)
    def test_replace_makes_nothing(self, records: Records, record: Record) -> None:
        with pytest.raises(NotFound, match=record.id):
            records.replace(record)
        assert records.find(type(record)) == []

    @pytest.mark.parametrize(
        "record",
        [
            SET,
            BASE,
            RUN,
            FINE_TUNE,
            EVALUATION,
            EVENT,
            GENERATION,
            GENERATED,
            REPLY,
            USAGE,
            examples.AUDIT,
            examples.QUOTA,
        ],
        ids=lambda record: record.id,
    )
    def test_other_kinds_never_change(self, records: Records, record: Record) -> None:
        records.add(*EVERYTHING)
        with pytest.raises(Conflict):
            records.replace(record)

    def test_the_failure_of_an_item_can_be_removed(self, records: Records) -> None:
        records.add(*EVERYTHING)
        records.remove(FAILURE)
        assert records.find(ItemFailure) == []
        with pytest.raises(NotFound, match=FAILURE.id):
            records.remove(FAILURE)
        records.add(FAILURE)

    def test_a_free_image_can_be_removed(self, records: Records) -> None:
        records.add(CATEGORY, IMAGE, PLAIN_IMAGE)
        records.remove(IMAGE)
        assert records.find(ReferenceImage) == [PLAIN_IMAGE]
        with pytest.raises(NotFound, match=IMAGE.id):
            records.remove(IMAGE)

    def test_a_frozen_image_stays(self, records: Records) -> None:
        records.add(CATEGORY, IMAGE, PLAIN_IMAGE, SET)
        with pytest.raises(Conflict, match="frozen"):
            records.remove(PLAIN_IMAGE)
        assert records.get(ReferenceSet, SET.id) == SET

    # what must not be

    @pytest.mark.parametrize("record", EVERYTHING, ids=lambda record: record.id)
    def test_an_id_exists_once(self, records: Records, record: Record) -> None:
        records.add(*EVERYTHING)
        with pytest.raises(Conflict):
            records.add(record)

    @pytest.mark.parametrize(
        "twin",
        [
            replace(SET, id="twin", image_ids=(), held_out_ids=()),
            replace(BASE, id="twin", revision="other"),
            replace(FINE_TUNE, id="twin"),
            replace(EVENT, id="twin"),
            replace(GENERATED, id="twin", seed=1),
            replace(KEY, id="twin", name="other"),
            replace(REPLY, id="twin", body="other"),
            replace(TEMPLATE, id="twin", scene=Scene()),
            replace(FAILURE, id="twin", error="Conflict"),
        ],
        ids=lambda record: type(record).__name__,
    )
    def test_a_number_is_given_once(self, records: Records, twin: Record) -> None:
        records.add(*EVERYTHING)
        with pytest.raises(Conflict):
            records.add(twin)
        assert twin.id not in [each.id for each in records.find(type(twin))]

    def test_a_path_exists_once_in_a_namespace(self, records: Records) -> None:
        records.add(CATEGORY)
        twin = replace(CATEGORY, id="twin", identifier="sks_something_else")
        with pytest.raises(CategoryExists, match=CATEGORY.path):
            records.add(twin)
        records.add(replace(twin, namespace="other"))

    @pytest.mark.parametrize(
        "identifier",
        [
            "sks_honeycrisp_apple",
            "SKS_Honeycrisp_Apple",
            "ｓｋｓ_honeycrisp_apple",
            "sks_honeycrisp_аpple",
            "sks_h0neycrisp_app1e",
        ],
    )
    def test_an_identifier_and_its_look_alikes_exist_once(self, records: Records, identifier: str) -> None:
        records.add(CATEGORY)  # it is retired, and that does not free its identifier
        twin = replace(CATEGORY, id="twin", path="produce/other", identifier=identifier)
        with pytest.raises(IdentifierTaken, match=identifier):
            records.add(twin)
        assert records.find(Category) == [CATEGORY]
        records.add(replace(twin, namespace="other"))

    def test_a_category_cannot_be_renamed_to_a_look_alike(self, records: Records) -> None:
        records.add(CATEGORY, other_category(2))
        with pytest.raises(IdentifierTaken):
            records.replace(replace(other_category(2), identifier="sks_h0neycrisp_apple"))
        assert records.get(Category, "category-2") == other_category(2)

    @pytest.mark.parametrize("orphan", examples.ORPHANS, ids=lambda record: record.id)
    def test_a_record_needs_its_parents(self, records: Records, orphan: Record) -> None:
        records.add(*EVERYTHING)
        with pytest.raises(NotFound, match="nobody"):
            records.add(orphan)
        assert orphan not in records.find(type(orphan))

    def test_a_replaced_record_needs_its_parents_too(self, records: Records) -> None:
        records.add(CATEGORY, IMAGE)
        with pytest.raises(NotFound, match="nobody"):
            records.replace(replace(IMAGE, category_id="nobody"))
        assert records.get(ReferenceImage, IMAGE.id) == IMAGE

    # all or nothing

    def test_a_refused_call_leaves_nothing(self, records: Records) -> None:
        records.add(CATEGORY)
        with pytest.raises(Conflict):
            records.add(JOB, IMAGE, CATEGORY)
        with pytest.raises(NotFound):
            records.add(PLAIN_IMAGE, replace(SET, image_ids=(PLAIN_IMAGE.id, "nobody")))
        assert [records.find(kind) for kind in (Job, ReferenceImage, ReferenceSet)] == [[], [], []]

    def test_a_failed_transaction_leaves_nothing(self, records: Records) -> None:
        records.add(CATEGORY, JOB)
        with pytest.raises(KeyError), records.transaction():
            records.add(IMAGE)
            records.replace(replace(CATEGORY, class_noun="pear"))
            records.replace(replace(JOB, progress=0.9))
            assert records.find(ReferenceImage) == [IMAGE]
            raise KeyError
        assert records.find(ReferenceImage) == []
        assert records.get(Category, CATEGORY.id) == CATEGORY
        assert records.get(Job, JOB.id) == JOB

    def test_an_inner_transaction_joins_the_outer_one(self, records: Records) -> None:
        with pytest.raises(KeyError), records.transaction():
            with records.transaction():
                records.add(CATEGORY)
            raise KeyError
        assert records.find(Category) == []
        with records.transaction():
            with records.transaction():
                records.add(CATEGORY)
            records.add(IMAGE)
        assert records.find(ReferenceImage) == [IMAGE]

    def test_a_transaction_goes_on_after_a_refused_call(self, records: Records) -> None:
        records.add(CATEGORY)
        with records.transaction():
            with pytest.raises(Conflict):
                records.add(JOB, CATEGORY)
            records.add(IMAGE)
        assert records.find(Job) == []
        assert records.find(ReferenceImage) == [IMAGE]

    def test_threads_have_transactions_of_their_own(self, records: Records) -> None:
        def add(number: int) -> None:
            with records.transaction():
                records.add(other_category(number))
                if number % 2:
                    raise KeyError

        raised = at_once(*(lambda number=number: add(number) for number in range(8)))
        assert [type(error) for error in raised] == [type(None), KeyError] * 4
        assert {category.id for category in records.find(Category)} == {f"category-{number}" for number in (0, 2, 4, 6)}

    def test_what_a_transaction_read_still_holds_when_it_writes(self, records: Records) -> None:
        records.add(QUEUED)

        def count() -> None:
            with records.transaction():
                job = records.get(Job, QUEUED.id)
                records.replace(replace(job, attempt=job.attempt + 1))

        assert at_once(*[count] * 16) == [None] * 16
        assert records.get(Job, QUEUED.id).attempt == 16

    # the fence

    def test_the_owner_of_a_job_may_write(self, records: Records) -> None:
        records.add(JOB)
        with records.transaction(fence=(JOB.id, JOB.attempt)):
            records.add(CATEGORY)
        assert records.find(Category) == [CATEGORY]

    @pytest.mark.parametrize("attempt", [0, 1, 3])
    def test_another_attempt_may_not(self, records: Records, attempt: int) -> None:
        records.add(JOB)
        with pytest.raises(StaleAttempt, match=JOB.id), records.transaction(fence=(JOB.id, attempt)):
            records.add(CATEGORY)
        assert records.find(Category) == []

    @pytest.mark.parametrize("status", [status for status in JobStatus if status is not JobStatus.RUNNING])
    def test_nobody_writes_for_a_job_that_does_not_run(self, records: Records, status: JobStatus) -> None:
        records.add(replace(JOB, status=status))
        with pytest.raises(StaleAttempt), records.transaction(fence=(JOB.id, JOB.attempt)):
            records.add(CATEGORY)
        assert records.find(Category) == []

    def test_a_fence_holds_in_an_inner_transaction(self, records: Records) -> None:
        records.add(JOB)
        with pytest.raises(StaleAttempt), records.transaction():
            records.add(CATEGORY)
            with records.transaction(fence=(JOB.id, 1)):
                records.add(IMAGE)
        assert records.find(Category) == []

    def test_a_fence_needs_its_job(self, records: Records) -> None:
        with pytest.raises(NotFound, match="nobody"), records.transaction(fence=("nobody", 1)):
            records.add(CATEGORY)
        assert records.find(Category) == []

    def test_a_worker_that_slept_past_its_lease_is_refused(self, records: Records) -> None:
        records.add(QUEUED)
        asleep = records.claim("first", NOW, LEASE)
        assert asleep is not None
        awake = records.claim("second", NOW + LEASE, LEASE)
        assert awake is not None
        with pytest.raises(StaleAttempt), records.transaction(fence=(asleep.id, asleep.attempt)):
            records.replace(jobs.finish(asleep, JobStatus.SUCCEEDED, NOW + LEASE))
        assert records.get(Job, QUEUED.id) == awake

    # the queue

    def test_an_empty_queue_gives_nothing(self, records: Records) -> None:
        records.add(replace(JOB, status=JobStatus.SUCCEEDED))
        assert records.claim("worker", NOW + 9 * LEASE, LEASE) is None

    def test_a_claim_is_written(self, records: Records) -> None:
        records.add(QUEUED)
        claimed = records.claim("worker", NOW, LEASE)
        assert claimed == jobs.claim(QUEUED, "worker", NOW, LEASE)
        assert records.get(Job, QUEUED.id) == claimed

    def test_the_oldest_job_comes_first(self, records: Records) -> None:
        for name in ("c", "a", "b"):
            records.add(replace(QUEUED, id=name))
        claimed = [records.claim("worker", NOW, LEASE) for _ in range(4)]
        assert [job and job.id for job in claimed] == ["c", "a", "b", None]

    def test_a_deserted_job_keeps_its_place(self, records: Records) -> None:
        records.add(replace(QUEUED, id="first"))
        records.claim("dies", NOW, LEASE)
        records.add(replace(QUEUED, id="second"))
        claimed = [records.claim("worker", NOW + LEASE, LEASE) for _ in range(3)]
        assert [job and job.id for job in claimed] == ["first", "second", None]

    def test_namespaces_take_turns_whatever_one_of_them_queues(self, records: Records) -> None:
        """Fault 25, in short: a flood of one team does not keep another one waiting."""
        records.add(*(replace(QUEUED, id=f"flood-{number}", namespace="flood") for number in range(200)))
        assert records.claim("worker", NOW, LEASE)
        records.add(
            *(replace(QUEUED, id=f"{name}-{number}", namespace=name) for number in (1, 2) for name in ("b", "c"))
        )
        claimed = [records.claim("worker", NOW, LEASE) for _ in range(7)]
        names = [job.namespace if job else "" for job in claimed]
        assert sorted(names[:2]) == ["b", "c"]
        assert (names[2], sorted(names[3:5]), names[5:]) == ("flood", ["b", "c"], ["flood", "flood"])
        assert [job.id for job in claimed if job and job.namespace == "flood"] == ["flood-1", "flood-2", "flood-3"]

    def test_priority_counts_within_a_namespace_alone(self, records: Records) -> None:
        for name, namespace, priority in (("a", "x", 0), ("b", "x", 9), ("c", "x", 9), ("d", "y", -9), ("e", "y", 0)):
            records.add(replace(QUEUED, id=name, namespace=namespace, priority=priority))
        claimed = [records.claim("worker", NOW, LEASE) for _ in range(5)]
        assert [job and job.id for job in claimed] == ["b", "e", "c", "d", "a"]

    # sums

    def test_records_are_counted_and_summed_by_group(self, records: Records) -> None:
        records.add(CATEGORY, JOB, USAGE, replace(USAGE, id="later", created_at=NOW + LEASE, seconds=0.25))
        bare = replace(USAGE, id="bare", category_id=None, status=JobStatus.SUCCEEDED, num_images=5)
        records.add(bare, replace(bare, id="foreign", namespace="other"))

        def tallied(by: tuple[str, ...], sums: tuple[str, ...], **options: object) -> list[tuple[object, ...]]:
            return [(each.key, each.count, each.sums) for each in records.tally(Usage, by, sums, **options)]

        assert tallied(("category_id", "status"), ("num_images", "seconds"), namespace="acme") == [
            ((None, "succeeded"), 1, (5.0, 12.5)),
            ((CATEGORY.id, "failed"), 2, (6.0, 12.75)),
        ]
        assert tallied(("namespace",), (), since=NOW + LEASE) == [(("acme",), 1, ())]
        assert tallied((), ("seconds",), until=NOW + LEASE, namespace="acme") == [((), 2, (25.0,))]
        assert tallied((), (), since=NOW, until=NOW) == []
        assert tallied((), ("seconds",), namespace="other") == [((), 1, (12.5,))]
        assert tallied((), ("seconds",), namespace="nobody") == []
        assert [each.key for each in records.tally(Job, ("kind", "status"))] == [("training", "running")]

    def test_one_job_can_be_asked_for(self, records: Records) -> None:
        records.add(replace(QUEUED, id="first"), replace(QUEUED, id="second"))
        claimed = records.claim("worker", NOW, LEASE, job_id="second")
        assert claimed is not None
        assert claimed.id == "second"
        assert records.claim("worker", NOW, LEASE, job_id="second") is None
        assert records.get(Job, "first").status is JobStatus.QUEUED
        with pytest.raises(NotFound, match="nobody"):
            records.claim("worker", NOW, LEASE, job_id="nobody")

    def test_a_lease_is_respected_until_it_ends(self, records: Records) -> None:
        records.add(QUEUED)
        records.claim("first", NOW, LEASE)
        assert records.claim("second", NOW + LEASE - timedelta(microseconds=1), LEASE) is None
        claimed = records.claim("second", NOW + LEASE, LEASE)
        assert claimed is not None
        assert (claimed.attempt, claimed.failures, claimed.worker) == (2, 1, "second")

    def test_a_heartbeat_renews_the_lease(self, records: Records) -> None:
        records.add(QUEUED)
        claimed = records.claim("first", NOW, LEASE)
        assert claimed is not None
        with records.transaction(fence=(claimed.id, claimed.attempt)):
            records.replace(jobs.heartbeat(claimed, NOW + LEASE / 2, LEASE, 0.5, "half"))
        assert records.claim("second", NOW + LEASE, LEASE) is None

    def test_a_job_fails_when_too_many_workers_died_and_the_next_one_is_taken(self, records: Records) -> None:
        records.add(replace(QUEUED, id="deadly"))
        now = NOW
        for number in range(MAX_ATTEMPTS):
            claimed = records.claim(f"worker-{number}", now, LEASE)
            assert claimed is not None
            now += LEASE
        records.add(replace(QUEUED, id="harmless"))
        told: list[Job] = []
        claimed = records.claim("survivor", now, LEASE, given_up=told.append)
        assert claimed is not None
        assert claimed.id == "harmless"
        failed = records.get(Job, "deadly")
        assert told == [failed]
        assert (failed.status, failed.finished_at) == (JobStatus.FAILED, now)
        assert "3 workers died on it" in failed.message
        assert "worker-2" in failed.message

    def test_one_claimer_wins(self, records: Records) -> None:
        records.add(QUEUED)
        winners: list[Job] = []

        def claim(number: int) -> None:
            job = records.claim(f"worker-{number}", NOW, LEASE)
            if job is not None:
                winners.append(job)

        assert at_once(*(lambda number=number: claim(number) for number in range(16))) == [None] * 16
        assert len(winners) == 1
        assert records.get(Job, QUEUED.id) == winners[0]


class TestInMemoryRecords(RecordsContract):
    @pytest.fixture
    def records(self, tmp_path: Path) -> Iterator[Records]:
        yield InMemoryRecords()


class SqlContract(RecordsContract):
    """What databases must do beyond it."""

    def test_a_missing_parent_is_named(self, records: Records) -> None:
        records.add(CATEGORY, BASE, JOB)
        with pytest.raises(NotFound, match="reference_set 'set-1'"):
            records.add(RUN)
        assert records.find(TrainingRun) == []

    def test_a_taken_number_is_named(self, records: Records) -> None:
        records.add(*EVERYTHING)
        with pytest.raises(Conflict, match="FineTune with category_id 'category-1', version 2 already"):
            records.add(replace(FINE_TUNE, id="twin"))

    def test_text_that_is_not_unicode_is_refused(self, records: Records) -> None:
        records.add(CATEGORY)
        with pytest.raises(InvalidInput, match="Unicode"):
            records.add(replace(IMAGE, file_name="\udcff.jpg"))
        with pytest.raises(InvalidInput, match="Unicode"):
            records.find(Category, path="\udcff")


class TestSqliteRecords(SqlContract):
    @pytest.fixture
    def records(self, tmp_path: Path) -> Iterator[Records]:
        with SqlRecords.open(new_database(tmp_path / "packshot.db")) as records:
            yield records

    def test_records_outlive_the_process(self, tmp_path: Path) -> None:
        with SqlRecords.create(tmp_path / "packshot.db") as records:
            records.add(*EVERYTHING)
        with SqlRecords.open(tmp_path / "packshot.db") as records:
            assert [records.get(type(record), record.id) for record in EVERYTHING] == list(EVERYTHING)

    def test_a_writer_that_waits_asks_again_and_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where SQLite waits, in longer and longer naps, one of many processes may find the lock taken each time."""
        monkeypatch.setattr("packshot.storage.engine.BUSY_TIMEOUT_S", 10)
        database = new_database(tmp_path / "packshot.db")
        with closing(sqlite3.connect(database, isolation_level=None)) as other, SqlRecords.open(database) as records:
            other.execute("BEGIN IMMEDIATE")
            asked: list[str] = []

            def ask(*arguments: Any) -> None:
                asked.append(arguments[2])
                if arguments[2] == "BEGIN IMMEDIATE" and asked.count("BEGIN IMMEDIATE") == 4:
                    other.execute("COMMIT")

            event.listen(Engine, "before_cursor_execute", ask)
            try:
                records.add(CATEGORY)
            finally:
                event.remove(Engine, "before_cursor_execute", ask)
            assert records.find(Category) == [CATEGORY]


class TestPostgresRecords(SqlContract):
    @pytest.fixture
    def records(self, postgres_database: str) -> Iterator[Records]:
        with SqlRecords.open(postgres_database) as records:
            yield records

    def test_what_it_cannot_hold_is_refused_and_nothing_else(self, records: Records) -> None:
        records.add(CATEGORY)
        with records.transaction():
            records.add(other_category(2))
            for wrong in (replace(IMAGE, caption="a\0b"), replace(IMAGE, id="x" * 65), replace(IMAGE, width=2**40)):
                with pytest.raises(InvalidInput, match="cannot hold"):
                    records.add(wrong)
        assert records.find(ReferenceImage) == []
        assert len(records.find(Category)) == 2

    def test_processes_share_a_queue(self, records: Records, postgres_database: str) -> None:
        names = [f"job-{number}" for number in range(60)]
        records.add(*(replace(QUEUED, id=name) for name in names))
        done = run_processes(QUEUE_WORKER, postgres_database, ["go"] * 2)
        assert sorted(name for each in done for name in each) == sorted(names)
        assert {(job.status, job.attempt) for job in records.find(Job)} == {(JobStatus.SUCCEEDED, 1)}

    def test_one_of_many_look_alikes_wins(self, records: Records, postgres_database: str) -> None:
        wishes = [[(number, SPELLINGS[number]) for number in range(start, 8, 2)] for start in range(2)]
        outcomes = [each for told in run_processes(CREATOR, postgres_database, wishes) for each in told]
        assert sorted(outcomes) == ["IdentifierTaken"] * 7 + ["won"]

    def test_a_server_that_was_restarted_is_no_error(
        self, records: Records, postgres_server: str, postgres_database: str
    ) -> None:
        records.add(CATEGORY)
        with psycopg.connect(postgres_server, autocommit=True) as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                [name_in(postgres_database)],
            )
        assert records.find(Category) == [CATEGORY]
