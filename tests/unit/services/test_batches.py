"""Batches as jobs: what is planned, what a kill leaves, what fails alone."""

import csv
import io
import json
import zipfile
from dataclasses import replace

import pytest
from fake_models import FakeGenerator
from PIL import Image

from packshot.domain.batches import PICTURES_AT_ONCE, Batch, ItemFailure
from packshot.domain.catalog import Category
from packshot.domain.errors import (
    InvalidInput,
    JobFailed,
    MissingVariable,
    UnusedOverride,
    WorkspaceUnusable,
    WrongVariable,
)
from packshot.domain.generation import GeneratedImage, Generation, SamplingSettings
from packshot.domain.jobs import Job, JobStatus
from packshot.domain.models import FineTune
from packshot.domain.templates import Template, parse_scene
from packshot.domain.usage import Usage
from packshot.services.batches import BatchRequest, estimate_batch, failures_of, items_of, plan_batch
from packshot.services.catalog import retire_category
from packshot.services.jobs import cancel, check_succeeded, work_on_one
from packshot.services.manifests import batch_sheet, manifest, manifest_csv, manifest_jsonl, pictures, write_zip
from packshot.services.models import promote
from packshot.services.templates import add_template

LIGHT = {"name": "light", "kind": "text", "default": "warm light"}
COPIES = tuple(f"scene-{number}" for number in range(6))
SURFACE = {"name": "surface", "kind": "choice", "choices": ["grass", "blue tiles"], "default": "grass"}


class Halting(FakeGenerator):
    """Ends as a killed process does, after so many calls: nothing is told to the job."""

    calls = 10**9

    def generate(self, *arguments, **options):
        if self.calls == 0:
            raise KeyboardInterrupt
        self.calls -= 1
        return super().generate(*arguments, **options)


@pytest.fixture
def studio(space):
    """Two categories that serve, one that serves nothing; two templates."""
    for variety in ("fuji", "gala"):
        promote(space.records, space.fine_tune(space.category(variety)), reason="a test")
    space.category("cox")
    summer = {"background": "on {surface}", "light": "{light}", "variables": [SURFACE, LIGHT]}
    add_template(space.records, name="summer", scene=parse_scene(summer))
    banner = {"light": "{light}", "negative_prompt": "text", "width": 64, "height": 32, "variables": [LIGHT]}
    add_template(space.records, name="banner", scene=parse_scene(banner))
    return space


def request(
    space, *varieties: str, templates: tuple[str, ...] = ("summer", "banner"), **change: object
) -> BatchRequest:
    named = {each.path.rsplit("/", 1)[1]: each for each in space.records.find(Category)}
    called = {each.name: each for each in space.records.find(Template)}
    sampling = SamplingSettings(num_images=2, seed=7)
    wanted = BatchRequest(
        categories=[named[variety] for variety in varieties or ("fuji", "gala")],
        templates=[called[name] for name in templates],
        variables={},
        sampling=sampling,
    )
    return replace(wanted, **change)


def plan(space, *varieties: str, **change) -> Batch:
    return plan_batch(space.records, request(space, *varieties, **change), "code-1").batch


def work(space, batch: Batch) -> Job:
    job = work_on_one(space.records, space.handlers, job_id=batch.job_id)
    assert job
    return job


def made(space, batch: Batch) -> dict[str, str]:
    return {name: image.sha256 for name, image in pictures(space.records, batch)}


def test_every_category_is_made_in_every_scene(studio):
    batch = plan(studio)
    check_succeeded(work(studio, batch))
    assert sorted(made(studio, batch)) == sorted(
        f"produce/apple/{variety}/{template}-v1-seed{seed}.png"
        for variety in ("fuji", "gala")
        for template in ("summer", "banner")
        for seed in (7, 8)
    )
    states = items_of(studio.records, batch)
    assert [(state.category.path[-4:], state.template.name) for state in states][:2] == [
        ("fuji", "summer"),
        ("fuji", "banner"),
    ]
    sampling = states[1].generation.sampling
    assert (sampling.width, sampling.height, sampling.negative_prompt) == (64, 32, "text")
    assert states[0].generation.prompt == "a photo of a sks_fuji_apple on grass, warm light"
    assert states[0].generation.template_id == states[0].template.id


def test_a_variable_goes_to_the_templates_that_have_it(studio):
    batch = plan(studio, "fuji", variables={"surface": "blue tiles", "light": "cool light"})
    first, second = items_of(studio.records, batch)
    assert first.generation.prompt.endswith("on blue tiles, cool light")
    assert second.generation.prompt == "a photo of a sks_fuji_apple, cool light"


def test_own_settings_go_before_those_of_the_templates(studio):
    sampling = SamplingSettings(width=128, negative_prompt="people")
    batch = plan(studio, "fuji", sampling=sampling, own_settings=["width", "negative_prompt"])
    sampling = items_of(studio.records, batch)[1].generation.sampling
    assert (sampling.width, sampling.height, sampling.negative_prompt) == (128, 32, "people")


def test_the_same_seed_gives_the_same_pictures(studio):
    first, second = plan(studio), None
    work(studio, first)
    second = plan(studio)
    work(studio, second)
    assert first.id != second.id
    assert made(studio, first) == made(studio, second)
    other = plan(studio, sampling=SamplingSettings(num_images=2, seed=9))
    work(studio, other)
    assert not set(made(studio, other).values()) & set(made(studio, first).values())


def test_a_failing_category_does_not_stop_the_others(studio):
    retire_category(studio.records, "produce/apple/gala")
    batch = plan(studio, "cox", "gala", "fuji")
    check_succeeded(work(studio, batch))
    failures = failures_of(items_of(studio.records, batch))
    assert [(each.category, each.template, each.error) for each in failures] == [
        ("produce/apple/cox", "summer@1", "NothingServing"),
        ("produce/apple/cox", "banner@1", "NothingServing"),
        ("produce/apple/gala", "summer@1", "CategoryRetired"),
        ("produce/apple/gala", "banner@1", "CategoryRetired"),
    ]
    assert "packshot train" in failures[0].message
    assert {name.split("/")[2] for name in made(studio, batch)} == {"fuji"}


def test_damaged_weights_fail_their_category_alone(studio):
    batch = plan(studio)
    fine_tune_id = items_of(studio.records, batch)[0].generation.fine_tune_id
    fine_tune = studio.records.get(FineTune, fine_tune_id)
    studio.blobs.damage(fine_tune.artifact("weights.safetensors").sha256)
    check_succeeded(work(studio, batch))
    failures = failures_of(items_of(studio.records, batch))
    assert {(each.category, each.error) for each in failures} == {("produce/apple/fuji", "FineTuneQuarantined")}
    assert len(made(studio, batch)) == 4


def test_a_batch_without_a_picture_has_failed(studio):
    batch = plan(studio, "cox")
    job = work(studio, batch)
    assert job.status is JobStatus.FAILED
    with pytest.raises(JobFailed, match=r"none of its 2 items .* serves no fine-tune"):
        check_succeeded(job)


def test_trouble_of_the_workspace_fails_no_category(studio):
    batch = plan(studio)
    studio.generator.failure = WorkspaceUnusable("the disk is full")
    assert work(studio, batch).status is JobStatus.FAILED
    assert studio.records.find(ItemFailure) == []


@pytest.mark.parametrize("calls", range(7))
def test_a_killed_batch_goes_on_where_it_stopped(studio, calls):
    wanted = SamplingSettings(num_images=PICTURES_AT_ONCE + 2, seed=7)
    straight = plan(studio, "fuji", sampling=wanted)
    check_succeeded(work(studio, straight))
    batch = plan(studio, "fuji", sampling=wanted)
    studio.generator = Halting()
    studio.generator.calls = calls
    if calls < 4:
        with pytest.raises(KeyboardInterrupt):
            work(studio, batch)
        kept = made(studio, batch)
        assert len(kept) == [0, 8, 10, 18][calls]
        job = studio.records.get(Job, batch.job_id)
        studio.records.replace(replace(job, lease_expires_at=job.created_at))
        again = plan_batch(studio.records, request(studio, "fuji", sampling=wanted), "code-2")
        assert (again.batch, again.resumed) == (batch, True)
        studio.generator = Halting()
        studio.generator.calls = 4 - calls
    check_succeeded(work(studio, batch))
    assert made(studio, batch) == made(studio, straight)


def test_an_interrupted_batch_keeps_its_pictures_and_waits(studio):
    batch = plan(studio)
    asked: list[bool] = []

    def stop() -> bool:
        asked.append(True)
        return len(asked) > 4

    job = work_on_one(studio.records, studio.handlers, job_id=batch.job_id, stop=stop)
    assert job
    assert job.status is JobStatus.QUEUED
    assert "stopped after picture" in job.message
    kept = made(studio, batch)
    assert 0 < len(kept) < 8
    check_succeeded(work(studio, batch))
    assert made(studio, batch).items() > kept.items()


def test_a_canceled_batch_makes_nothing_more(studio):
    batch = plan(studio)
    cancel(studio.records, batch.job_id)
    assert work_on_one(studio.records, studio.handlers) is None
    assert made(studio, batch) == {}
    assert not plan_batch(studio.records, request(studio), "code-1").resumed


def test_only_the_same_unfinished_batch_goes_on(studio):
    batch = plan(studio)
    assert plan(studio) == batch
    assert plan(studio, "fuji", "fuji", "gala") == batch
    changes = (
        {"sampling": SamplingSettings(num_images=2, seed=8)},
        {"variables": {"light": "cool light"}},
        {"templates": ("banner", "summer")},
        {"own_settings": ["width"]},
    )
    assert len({batch.id, plan(studio, "fuji").id, *(plan(studio, **change).id for change in changes)}) == 6


def test_a_promotion_does_not_change_what_was_planned(studio):
    batch = plan(studio, "fuji")
    category = items_of(studio.records, batch)[0].category
    promote(studio.records, studio.fine_tune(category, seed=1), reason="newer")
    work_on_one(studio.records, studio.handlers, job_id=batch.job_id)
    assert {line.fine_tune_version for line in manifest(studio.records, batch)} == {1}


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"categories": []}, InvalidInput, "a category"),
        ({"templates": ()}, InvalidInput, "a template"),
        ({"sampling": SamplingSettings(num_images=1000), "templates": COPIES}, InvalidInput, "at most 10000"),
        ({"sampling": SamplingSettings(num_images=2, seed=2**32 - 1)}, InvalidInput, "begin lower"),
        ({"variables": {"lihgt": "x"}}, UnusedOverride, "did you mean light?"),
        ({"variables": {"surface": "mud"}}, WrongVariable, "choose one of grass, blue tiles"),
        ({"templates": ("open",)}, MissingVariable, "light"),
    ],
    ids=str,
)
@pytest.mark.parametrize("ask", [estimate_batch, lambda *arguments: plan_batch(*arguments, "code-1")])
def test_a_batch_that_cannot_be_is_refused_whole(studio, change, error, said, ask):
    for name in COPIES:
        add_template(studio.records, name=name, scene=parse_scene({}))
    scene = parse_scene({"light": "{light}", "variables": [{**LIGHT, "default": None}]})
    add_template(studio.records, name="open", scene=scene)
    with pytest.raises(error) as raised:
        ask(studio.records, request(studio, **change))
    assert said in str(raised.value)
    assert studio.records.find(Batch) == studio.records.find(Generation) == []


def test_an_estimate_counts_and_records_nothing(studio):
    plan(studio, "fuji")
    estimate = estimate_batch(studio.records, request(studio, "fuji", "cox"))
    assert (estimate.pictures, estimate.denoising_steps, estimate.jobs_ahead) == (4, 80, 1)
    assert [(each.template, each.error) for each in estimate.failures] == [
        ("summer@1", "NothingServing"),
        ("banner@1", "NothingServing"),
    ]
    assert len(studio.records.find(Batch)) == 1


# what it leaves behind


def test_the_manifest_has_a_line_for_every_picture_and_failure(studio):
    batch = plan(studio, "fuji", "cox", templates=("summer",))
    assert [line.error for line in manifest(studio.records, batch)] == ["NothingServing"]
    work(studio, batch)
    lines = [json.loads(line) for line in manifest_jsonl(manifest(studio.records, batch)).splitlines()]
    assert [(line["category"], line["seed"], line["error"]) for line in lines] == [
        ("produce/apple/fuji", 7, ""),
        ("produce/apple/fuji", 8, ""),
        ("produce/apple/cox", None, "NothingServing"),
    ]
    first = lines[0]
    image = studio.records.get(GeneratedImage, first["image_id"])
    assert (first["sha256"], first["template"], first["fine_tune_version"]) == (image.sha256, "summer@1", 1)
    assert first["prompt"] == "a photo of a sks_fuji_apple on grass, warm light"
    rows = list(csv.DictReader(io.StringIO(manifest_csv(manifest(studio.records, batch)))))
    assert [{key: str(value or "") for key, value in line.items()} for line in lines][1:] == rows[1:]


def test_a_spreadsheet_runs_nothing_of_the_manifest(studio):
    scene = parse_scene({"style": "=cmd|' /C calc'!A0", "negative_prompt": "@SUM(1)"})
    add_template(studio.records, name="nasty", scene=scene)
    batch = plan(studio, "fuji", templates=("nasty",))
    work(studio, batch)
    (row, _) = csv.DictReader(io.StringIO(manifest_csv(manifest(studio.records, batch))))
    assert (row["prompt"][:5], row["negative_prompt"]) == ("'=cmd", "'@SUM(1)")
    assert manifest(studio.records, batch)[0].prompt.startswith("=cmd")


def test_equal_batches_make_equal_archives(studio):
    archives: list[bytes] = []
    for _ in range(2):
        batch = plan(studio, "fuji", "cox")
        work(studio, batch)
        file = io.BytesIO()
        assert write_zip(studio.records, studio.blobs, batch, file) == 4
        archives.append(file.getvalue())
        with zipfile.ZipFile(file) as archive:
            assert archive.testzip() is None
            named = {line.file for line in manifest(studio.records, batch) if line.file}
            assert set(archive.namelist()) == named
            assert all(archive.read(name).startswith(b"\x89PNG") for name in named)
    assert archives[0] == archives[1]


def test_the_sheet_shows_what_is_made_and_leaves_the_rest_empty(studio):
    batch = plan(studio, "cox", "fuji")
    empty = batch_sheet(studio.records, studio.blobs, batch)
    work(studio, batch)
    full = batch_sheet(studio.records, studio.blobs, batch)
    with Image.open(io.BytesIO(empty)) as before, Image.open(io.BytesIO(full)) as after:
        assert before.size == after.size
        changed = [
            (x, y)
            for y in range(0, after.height, 8)
            for x in range(0, after.width, 8)
            if before.getpixel((x, y)) != after.getpixel((x, y))
        ]
    assert changed
    assert min(y for _, y in changed) > after.height // 2 - 40


def test_pictures_that_an_interrupted_attempt_kept_are_counted_once(studio):
    made = plan(studio)
    stopped: list[bool] = []
    job = work_on_one(
        studio.records,
        studio.handlers,
        job_id=made.job_id,
        report=lambda progress: stopped.append(True) if progress.step else None,
        stop=lambda: bool(stopped),
    )
    assert job
    assert job.status is JobStatus.QUEUED
    work_on_one(studio.records, studio.handlers, job_id=made.job_id)
    noted = studio.records.find(Usage, job_id=made.job_id)
    assert [each.status for each in noted] == [JobStatus.QUEUED, JobStatus.SUCCEEDED]
    assert all(each.num_images for each in noted)
    assert sum(each.num_images for each in noted) == len(items_of(studio.records, made)) * 2
    assert {each.category_id for each in noted} == {None}
