import json
from dataclasses import replace
from datetime import timedelta

import pytest
from fakes import InMemoryRecords

from packshot.domain.errors import CategoryRetired, Interrupted, NotFound, StaleAttempt
from packshot.domain.jobs import MAX_ATTEMPTS, Job, JobStatus, finish
from packshot.domain.models import FineTune
from packshot.domain.references import ReferenceImage, Rights
from packshot.domain.training import TrainingConfig, TrainingRun
from packshot.domain.training_choices import HorizontalFlip, Method
from packshot.imaging.folders import read_photos
from packshot.services.catalog import now, retire_category
from packshot.services.jobs import never_stop, no_report, work_on_one
from packshot.services.references import add_references, freeze_references
from packshot.services.training import fine_tune_of, newest_set, plan_training

LEASE = timedelta(seconds=20)


def claimed(records: InMemoryRecords, job_id: str, worker: str = "host:1") -> Job:
    job = records.claim(worker, now(), LEASE, job_id=job_id)
    assert job
    return job


def test_a_plan_is_a_run_with_a_queued_job_and_its_parents(space):
    category = space.category()
    plan = space.plan(category, seed=7)
    assert not plan.resumed
    assert plan.job.status is JobStatus.QUEUED
    assert plan.job.subject_id == plan.run.id
    assert space.records.get(TrainingRun, plan.run.id) == plan.run
    assert plan.run.reference_set_id == newest_set(space.records, category).id
    assert (plan.run.config.seed, plan.run.code_revision) == (7, "0.1.0+git.abc")


def test_without_a_frozen_set_nothing_is_planned(space):
    category = space.category("gala", 3)
    with pytest.raises(NotFound, match="packshot references freeze produce/apple/gala"):
        space.plan(category)
    assert space.records.find(TrainingRun) == []
    assert space.records.find(Job) == []


def test_a_retired_category_is_not_trained(space):
    space.category()
    with pytest.raises(CategoryRetired, match="produce/apple/fuji was retired"):
        space.plan(retire_category(space.records, "produce/apple/fuji"))
    assert space.records.find(Job) == []


def test_a_training_that_waits_when_its_category_is_retired_is_not_carried_out(space):
    plan = space.plan(space.category())
    retire_category(space.records, "produce/apple/fuji")
    with pytest.raises(CategoryRetired):
        space.train(claimed(space.records, plan.job.id), no_report, never_stop)
    assert space.trainer.tasks == []
    assert space.records.find(FineTune) == []


def test_the_same_plan_again_goes_on_with_the_unfinished_run(space):
    category = space.category()
    first = space.plan(category)
    claimed(space.records, first.job.id)
    again = space.plan(category)
    assert again.resumed
    assert again.run == first.run
    assert again.job.status is JobStatus.RUNNING
    assert space.records.find(TrainingRun) == [first.run]


@pytest.mark.parametrize("status", [JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELED])
def test_after_the_end_of_a_run_the_same_plan_is_a_new_one(space, status):
    category = space.category()
    first = space.plan(category)
    space.records.replace(finish(claimed(space.records, first.job.id), status, now()))
    again = space.plan(category)
    assert not again.resumed
    assert again.run.id != first.run.id


def test_another_configuration_base_or_set_is_another_run(space):
    category = space.category()
    runs = {space.plan(category).run.id, space.plan(category, seed=1).run.id}
    other_base = plan_training(space.records, category, space.base("other"), TrainingConfig(steps=3), "x")
    runs.add(other_base.run.id)
    image = space.records.find(ReferenceImage)[0]
    space.records.add(replace(image, id="ref_new", original="0" * 64))
    freeze_references(space.records, category)
    runs.add(space.plan(category).run.id)
    assert len(runs) == 4


def test_a_run_publishes_a_fine_tune_with_its_files_and_names(space):
    category = space.category()
    fine_tune = space.fine_tune(category, method=Method.LORA)
    assert (fine_tune.version, fine_tune.method, fine_tune.category_id) == (1, Method.LORA, category.id)
    assert fine_tune.trained_phrase == f"{fine_tune.token} apple"
    assert "sks" not in fine_tune.trained_phrase
    assert [each.name for each in fine_tune.artifacts] == ["loss.png", "metrics.jsonl", "weights.safetensors"]
    for artifact in fine_tune.artifacts:
        assert len(space.blobs.get(artifact.sha256)) == artifact.num_bytes
    metrics = space.blobs.get(fine_tune.artifact("metrics.jsonl").sha256).decode().splitlines()
    assert [json.loads(line)["step"] for line in metrics] == [1, 2, 3]
    assert space.blobs.get(fine_tune.artifact("loss.png").sha256).startswith(b"\x89PNG")


def test_the_trainer_sees_the_training_photos_with_captions_and_never_the_held_out_ones(space):
    category = space.category("fuji", 10)
    frozen = newest_set(space.records, category)
    space.fine_tune(category, seed=5)
    (task,) = space.trainer.tasks
    by_id = {image.id: space.blobs.get(image.image or "") for image in space.records.find(ReferenceImage)}
    assert {example.image for example in task.examples} == {
        png for id_, png in by_id.items() if id_ not in frozen.held_out_ids
    }
    assert len(task.examples) == 8
    assert (task.class_noun, task.config.seed, task.base.source) == ("apple", 5, "embedded")
    assert task.trained_phrase.startswith(task.token)
    assert (space.folder / "runs") in task.workdir.parents


def test_the_trainer_is_told_whether_to_mirror_where_that_is_left_to_the_judge(space):
    """The fake judge sees mean colours, and those of mirror images are the same."""
    for told, flip in ((HorizontalFlip.AUTO, HorizontalFlip.ON), (HorizontalFlip.OFF, HorizontalFlip.OFF)):
        run = space.plan(space.category(f"fuji-{told}"), horizontal_flip=told).run
        space.train(claimed(space.records, run.job_id), no_report, never_stop)
        assert space.trainer.tasks[-1].config.horizontal_flip is flip
        assert space.records.get(TrainingRun, run.id).config.horizontal_flip is told


def test_versions_count_up_in_each_category(space):
    fuji, gala = space.category("fuji"), space.category("gala", start=50)
    assert [space.fine_tune(fuji, seed=seed).version for seed in range(3)] == [1, 2, 3]
    assert space.fine_tune(gala).version == 1


def test_two_categories_with_the_same_photos_share_no_token(space):
    fuji, gala = space.category("fuji"), space.category("gala")
    tokens = {space.fine_tune(fuji).token, space.fine_tune(gala).token}
    assert newest_set(space.records, fuji).digest == newest_set(space.records, gala).digest
    assert len(tokens) == 2


def test_equal_runs_have_equal_tokens_and_weights(space):
    category = space.category()
    one, two = space.fine_tune(category), space.fine_tune(category)
    assert one.token == two.token
    assert one.artifacts == two.artifacts


def test_a_run_publishes_once_however_often_it_is_carried_out(space):
    plan = space.plan(space.category())
    job = claimed(space.records, plan.job.id)
    published = space.train(job, no_report, never_stop)
    assert space.train(job, no_report, never_stop) == published
    assert space.records.find(FineTune) == [published]
    assert len(space.trainer.tasks) == 1
    assert fine_tune_of(space.records, plan.run) == published


def test_a_stale_attempt_publishes_nothing(space):
    plan = space.plan(space.category())
    stale = claimed(space.records, plan.job.id)
    taken = space.records.claim("host:2", now() + 2 * LEASE, LEASE, job_id=plan.job.id)
    assert taken
    with pytest.raises(StaleAttempt):
        space.train(stale, no_report, never_stop)
    assert space.records.find(FineTune) == []
    with pytest.raises(NotFound, match=plan.run.id):
        fine_tune_of(space.records, plan.run)
    assert space.train(taken, no_report, never_stop).version == 1


def test_an_interrupted_run_goes_on_where_it_stopped(space):
    plan = space.plan(space.category(), steps=6)
    steps: list[int] = []
    space.trainer.before_step = steps.append
    with pytest.raises(Interrupted):
        space.train(claimed(space.records, plan.job.id), no_report, lambda: len(steps) == 4)
    assert space.records.find(FineTune) == []
    again = space.records.claim("host:2", now() + 2 * LEASE, LEASE, job_id=plan.job.id)
    assert again
    space.train(again, no_report, never_stop)
    assert steps == [1, 2, 3, 4, 4, 5, 6]


def test_a_fine_tune_keeps_the_code_that_finished_it_beside_the_code_that_planned_its_run(space):
    category = space.category()
    first = space.fine_tune(category)
    plan = space.plan(category, steps=6)
    steps: list[int] = []
    space.trainer.before_step = steps.append
    job = claimed(space.records, plan.job.id)
    with pytest.raises(Interrupted):
        space.train(job, no_report, lambda: len(steps) == 4)
    space.code_revision = "0.2.0"
    assert space.plan(category, steps=6).run == plan.run
    second = space.train(job, no_report, never_stop)
    assert (first.code_revision, second.code_revision) == ("0.1.0+git.abc", "0.2.0")
    assert space.records.get(TrainingRun, second.training_run_id).code_revision == "0.1.0+git.abc"


def test_the_trainer_never_reads_the_public_identifier(space):
    category = space.category("fuji", 0)
    folder = space.photos(5)
    for number, caption in enumerate(["SKS_fuji_apple on a table", "sks_fuji_apple, ｓｋｓ_fuji_apple", "an apple"]):
        (folder / f"0{number}.txt").write_text(caption, encoding="utf-8")
    add_references(space.records, space.blobs, category, read_photos([folder]), Rights())
    freeze_references(space.records, category)
    phrase = space.fine_tune(category).trained_phrase
    captions = sorted(example.caption for example in space.trainer.tasks[0].examples)
    assert captions == ["", "", f"{phrase} on a table", f"{phrase}, {phrase}", "an apple"]


def checkpoints(space, run) -> list[str]:
    return [path.name for path in (space.folder / "runs" / run.id).glob("*")]


def worked_on(space, plan, **options) -> JobStatus:
    job = work_on_one(space.records, space.handlers, job_id=plan.job.id, tidy=space.tidy, **options)
    return (job or space.records.get(Job, plan.job.id)).status


def test_the_checkpoints_of_a_run_stay_until_its_job_has_succeeded(space):
    category = space.category()
    plan, other = space.plan(category, steps=6), space.plan(category, seed=9)
    steps: list[int] = []
    space.trainer.before_step = steps.append
    assert worked_on(space, plan, stop=lambda: len(steps) == 4) is JobStatus.QUEUED
    assert worked_on(space, other) is JobStatus.SUCCEEDED
    assert checkpoints(space, plan.run) == ["step"]
    assert checkpoints(space, other.run) == []
    assert worked_on(space, plan) is JobStatus.SUCCEEDED
    assert list((space.folder / "runs").iterdir()) == []


def test_the_checkpoints_of_a_failed_run_go_since_it_is_never_taken_up_again(space):
    category = space.category()
    plan = space.plan(category)

    def fail(step: int) -> None:
        if step == 2:
            raise MemoryError

    space.trainer.before_step = fail
    assert worked_on(space, plan) is JobStatus.FAILED
    assert list((space.folder / "runs").iterdir()) == []
    assert not space.plan(category).resumed


def test_the_checkpoints_of_a_run_that_too_many_workers_died_on_go_too(space):
    plan = space.plan(space.category())
    for number in range(MAX_ATTEMPTS):
        space.records.claim(f"dead:{number}", now() - (9 - number) * LEASE, LEASE, job_id=plan.job.id)
    left = space.folder / "runs" / plan.run.id
    left.mkdir(parents=True)
    assert worked_on(space, plan) is JobStatus.FAILED
    assert not left.exists()


def test_what_belongs_to_no_job_is_left_alone(space):
    kept = space.folder / "runs" / "notes"
    kept.mkdir(parents=True)
    space.tidy()
    assert kept.is_dir()


def test_a_stale_attempt_leaves_the_checkpoints_to_its_successor(space):
    plan = space.plan(space.category())
    stale = claimed(space.records, plan.job.id)
    assert space.records.claim("host:2", now() + 2 * LEASE, LEASE, job_id=plan.job.id)
    with pytest.raises(StaleAttempt):
        space.train(stale, no_report, never_stop)
    space.tidy()
    assert checkpoints(space, plan.run) == ["step"]
