from dataclasses import replace

import pytest
from fake_models import renamed

from packshot.domain.errors import (
    BaseModelRefused,
    CategoryRetired,
    GateNotPassed,
    InvalidInput,
    NotFound,
    NothingServing,
)
from packshot.domain.evaluation import Outcome, Verdict
from packshot.domain.generation import SamplingSettings
from packshot.domain.models import AliasAction, AliasEvent, BaseModelRef, serving
from packshot.domain.references import ReferenceImage
from packshot.services.catalog import retire_category, summarise
from packshot.services.evaluation import Suite, evaluate
from packshot.services.generation import generate
from packshot.services.models import (
    base_among,
    fine_tune_at,
    lineage_of,
    promote,
    register_base,
    roll_back,
    serving_fine_tune,
    trained_on,
)
from packshot.services.training import newest_set

SMALL = Suite(scenes=("on grass", "on wood"), images_per_scene=2, class_images=2, inference_steps=1)


def judged(space, fine_tune, outcome):
    """An evaluation of ``fine_tune`` that ended in ``outcome``."""
    evaluation = evaluate(space.records, space.blobs, space.generator, space.judge, fine_tune, suite=SMALL)
    verdict = Verdict(outcome=outcome, reasons=("subject fidelity 0.1 is below 0.5",))
    space.records.add(replace(evaluation, id=f"{evaluation.id}_{outcome}", verdict=verdict))


def test_a_base_is_registered_once(space):
    base = space.base("some/base")
    assert space.base("some/base") == base
    assert space.records.find(BaseModelRef) == [base]


def test_new_weights_under_the_same_name_are_another_base(space):
    one = register_base(space.records, space.bases.describe("some/base", "v1"))
    two = register_base(space.records, space.bases.describe("some/base", "v2"))
    assert one.id != two.id
    assert space.records.find(BaseModelRef, source="some/base") == [one, two]


def test_a_base_that_cannot_be_loaded_is_not_recorded(space):
    with pytest.raises(BaseModelRefused):
        space.base("broken")
    assert space.records.find(BaseModelRef) == []


def test_a_base_is_found_by_source_id_and_beginning_of_its_digest(space):
    old = register_base(space.records, space.bases.describe("some/base", "v1"))
    new = register_base(space.records, space.bases.describe("some/base", "v2"))
    other = space.base("other/base")
    assert base_among(space.records.find(BaseModelRef), "some/base") == new
    assert base_among(space.records.find(BaseModelRef), old.id) == old
    assert base_among(space.records.find(BaseModelRef), old.digest[:8]) == old
    assert base_among(space.records.find(BaseModelRef), other.digest) == other


def test_a_folder_is_found_however_its_path_is_written(space, tmp_path, monkeypatch):
    base = space.base(str(tmp_path / "base"))
    monkeypatch.chdir(tmp_path)
    assert base_among(space.records.find(BaseModelRef), "./base") == base


@pytest.mark.parametrize("reference", ["nothing/here", "abc", "", "0123456789"])
def test_a_base_that_is_not_registered_is_not_found(space, reference):
    space.base("some/base")
    with pytest.raises(NotFound, match="packshot base add"):
        base_among(space.records.find(BaseModelRef), reference)


def test_a_digest_of_several_bases_names_them(space):
    base = space.base("some/base")
    space.records.add(renamed(base, "a/copy"))
    with pytest.raises(InvalidInput, match=r"some/base.*a/copy"):
        base_among(space.records.find(BaseModelRef), base.digest[:12])


def test_the_fine_tunes_of_a_base_are_known(space):
    category = space.category()
    first, second = space.fine_tune(category), space.fine_tune(category)
    base = space.records.get(BaseModelRef, first.base_id)
    assert second.base_id == base.id
    assert trained_on(space.records, base) == ["produce/apple/fuji@1", "produce/apple/fuji@2"]
    assert trained_on(space.records, space.base("other/base")) == []


def test_a_fine_tune_is_found_by_path_and_version(space):
    category = space.category()
    first, second = space.fine_tune(category), space.fine_tune(category)
    assert fine_tune_at(space.records, "produce/apple/fuji") == second
    assert fine_tune_at(space.records, "produce/apple/fuji@1") == first
    assert fine_tune_at(space.records, "produce/apple/fuji@v2") == second


@pytest.mark.parametrize(
    ("reference", "error", "message"),
    [
        ("produce/apple/fuji@3", NotFound, "no version 3; its versions are 1"),
        ("produce/apple/fuji@0", NotFound, "no version 0"),
        ("produce/apple/fuij", NotFound, "did you mean produce/apple/fuji"),
        ("produce/apple/fuji@", InvalidInput, "write PATH or PATH@VERSION"),
        ("produce/apple/fuji@newest", InvalidInput, "write PATH or PATH@VERSION"),
        ("produce/apple/fuji@1@2", InvalidInput, "write PATH or PATH@VERSION"),
        ("", InvalidInput, "write PATH or PATH@VERSION"),
        ("produce/apple/gala", NotFound, "packshot train produce/apple/gala"),
    ],
)
def test_what_cannot_be_found_says_why(space, reference, error, message):
    space.fine_tune(space.category())
    space.category("gala", 0)
    with pytest.raises(error, match=message):
        fine_tune_at(space.records, reference)


def test_promotion_and_rollback_append_events_and_change_what_serves(space):
    category = space.category()
    first, second = (space.fine_tune(category, seed=seed) for seed in (1, 2))
    with pytest.raises(NothingServing):
        serving_fine_tune(space.records, category)
    promote(space.records, first, reason="the first")
    promote(space.records, second, reason="the second")
    assert serving_fine_tune(space.records, category) == second
    assert summarise(space.records, category).serving_version == 2
    roll_back(space.records, category, reason="too red")
    assert serving_fine_tune(space.records, category) == first
    with pytest.raises(NothingServing, match="serves its first version"):
        roll_back(space.records, category)
    events = space.records.find(AliasEvent)
    assert [(event.number, event.fine_tune_id, event.action, event.reason) for event in events] == [
        (1, first.id, AliasAction.PROMOTE, "the first"),
        (2, second.id, AliasAction.PROMOTE, "the second"),
        (3, first.id, AliasAction.ROLLBACK, "too red"),
    ]


def test_categories_serve_independently(space):
    fuji, gala = space.category("fuji"), space.category("gala")
    of_fuji, of_gala = space.fine_tune(fuji), space.fine_tune(gala)
    promote(space.records, of_fuji, reason="a test")
    promote(space.records, of_gala, reason="a test")
    assert serving_fine_tune(space.records, fuji) == of_fuji
    assert serving(space.records.find(AliasEvent, category_id=gala.id)) == of_gala.id
    with pytest.raises(NothingServing):
        roll_back(space.records, gala)


def test_nothing_is_put_into_service_in_a_retired_category(space):
    category = space.category()
    first, second = (space.fine_tune(category, seed=seed) for seed in (1, 2))
    promote(space.records, first, reason="a test")
    promote(space.records, second, reason="a test")
    retired = retire_category(space.records, category.path)
    with pytest.raises(CategoryRetired):
        promote(space.records, first, reason="a test")
    with pytest.raises(CategoryRetired):
        roll_back(space.records, retired)
    assert len(space.records.find(AliasEvent)) == 2


@pytest.mark.parametrize(
    ("outcome", "objection"),
    [
        (None, "fuji@1 was never evaluated; do so with: packshot evaluate produce/apple/fuji@1; .*--reason"),
        (Outcome.REVIEW, r"the gate leaves produce/apple/fuji@1 to a person: subject fidelity 0.1.*--reason"),
        (Outcome.REJECTED, r"the gate rejected produce/apple/fuji@1: subject fidelity 0.1.*--reason"),
    ],
)
def test_what_the_gate_did_not_pass_is_promoted_with_a_reason_only(space, outcome, objection):
    category = space.category()
    fine_tune = space.fine_tune(category)
    if outcome:
        judged(space, fine_tune, outcome)
    for no_reason in ("", " "):
        with pytest.raises(GateNotPassed, match=objection):
            promote(space.records, fine_tune, reason=no_reason)
    assert space.records.find(AliasEvent) == []
    assert promote(space.records, fine_tune, reason="the client likes it").reason == "the client likes it"
    assert serving_fine_tune(space.records, category) == fine_tune


def test_the_newest_verdict_decides(space):
    fine_tune = space.fine_tune(space.category())
    judged(space, fine_tune, Outcome.REJECTED)
    judged(space, fine_tune, Outcome.PASSED)
    assert promote(space.records, fine_tune).fine_tune_id == fine_tune.id
    judged(space, fine_tune, Outcome.REVIEW)
    with pytest.raises(GateNotPassed):
        promote(space.records, fine_tune)


def test_the_lineage_of_a_picture_goes_back_to_the_photos(space):
    category = space.category("fuji", 10)
    fine_tune = space.fine_tune(category, seed=4)
    judged(space, fine_tune, Outcome.PASSED)
    event = promote(space.records, fine_tune)
    generation, images = generate(
        space.records,
        space.blobs,
        space.generator,
        "sks_fuji_apple on grass",
        SamplingSettings(num_images=2),
        bare_base=space.base,
        code_revision="rev",
    )
    lineage = lineage_of(space.records, images[1].id)
    assert (lineage.image, lineage.generation, lineage.fine_tune) == (images[1], generation, fine_tune)
    assert lineage.category == category
    assert lineage.run
    assert (lineage.run.config.seed, lineage.run.code_revision) == (4, "0.1.0+git.abc")
    assert lineage.reference_set == newest_set(space.records, category)
    assert list(lineage.references) == space.records.find(ReferenceImage)
    assert lineage.base == space.base()
    assert len(lineage.evaluations) == 2
    assert lineage.alias_events == (event,)


def test_the_lineage_of_a_fine_tune_begins_at_the_fine_tune(space):
    category = space.category()
    first, second = space.fine_tune(category), space.fine_tune(category)
    lineage = lineage_of(space.records, "produce/apple/fuji@1")
    assert (lineage.fine_tune, lineage.image, lineage.generation) == (first, None, None)
    assert lineage_of(space.records, "produce/apple/fuji").fine_tune == second
    assert len(lineage.references) == 5


@pytest.mark.parametrize("reference", ["img_0123456789abcdef", "produce/apple/gala", "produce/apple/fuji@9"])
def test_what_does_not_exist_has_no_lineage(space, reference):
    space.fine_tune(space.category())
    with pytest.raises(NotFound):
        lineage_of(space.records, reference)
