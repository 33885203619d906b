from datetime import timedelta

import pytest
from photos import GREEN

from packshot.domain.errors import Interrupted, InvalidInput, InvalidPath, NothingServing, ReferenceSetRefused
from packshot.domain.evaluation import Outcome
from packshot.domain.models import AliasEvent, FineTune
from packshot.domain.references import ReferenceImage, Rights
from packshot.domain.training import TrainingConfig, TrainingRun
from packshot.services.catalog import category_at
from packshot.services.demo import NUM_PHOTOS, DemoModels, photo_categories, run_demo, sample_categories
from packshot.services.evaluation import Suite
from packshot.services.jobs import never_stop, no_report
from packshot.services.models import serving_fine_tune

SUITE = Suite(scenes=("on grass", "on wood"), images_per_scene=1, class_images=1, inference_steps=1)


def unskipped(rival, error):
    raise AssertionError(f"{rival} was skipped: {error}")


def demo(space, categories, *, stop=never_stop, skip=unskipped, **config):
    models = DemoModels(
        records=space.records,
        blobs=space.blobs,
        generator=space.generator,
        judge=space.judge,
        base=space.base(),
        handlers=space.handlers,
        tidy=space.tidy,
        lease=timedelta(seconds=20),
        code_revision="rev",
        namespace="sks",
    )
    settings = TrainingConfig(**{"steps": 2, **config})
    return run_demo(models, categories, settings, SUITE, report=no_report, watch=lambda _: None, skip=skip, stop=stop)


def test_photos_become_a_serving_fine_tune_and_sibling_folders_its_rivals(space):
    folder = space.photos(8, name="catalog")
    photos = space.photos(8, name="catalog/Pink_Lady")
    space.photos(6, name="catalog/fuji", colour=GREEN, start=50)
    assert folder.is_dir()
    categories = photo_categories(photos, "apple")
    assert [each.path for each in categories] == ["photos/apple/pink-lady", "photos/apple/fuji"]
    made = demo(space, categories)
    assert made.category.identifier == "sks_pinklady_apple"
    assert made.promoted
    assert serving_fine_tune(space.records, made.category) == made.fine_tune
    assert made.evaluation.rivals == ("photos/apple/fuji",)
    assert space.records.find(FineTune) == [made.fine_tune]


def test_a_fine_tune_that_the_gate_rejects_is_shown_and_not_promoted(space):
    space.trainer.misled = True
    made = demo(space, photo_categories(space.photos(8, name="catalog/fuji"), "apple"))
    assert made.evaluation.verdict.outcome is Outcome.REJECTED
    assert not made.promoted
    with pytest.raises(NothingServing):
        serving_fine_tune(space.records, made.category)


def test_siblings_that_cannot_be_used_are_skipped_with_their_cause(space):
    photos = space.photos(6, name="catalog/fuji")
    space.photos(3, name="catalog/few", start=20)
    space.photos(6, name="catalog/gala", colour=GREEN, start=30)
    space.photos(6, name="catalog/no good name", start=40)
    (space.folder / "catalog" / "notes").mkdir()
    skipped = {}
    made = demo(
        space, photo_categories(photos, "apple"), skip=lambda rival, error: skipped.update({rival.folder.name: error})
    )
    assert {name: type(error) for name, error in skipped.items()} == {
        "few": ReferenceSetRefused,
        "no good name": InvalidPath,
        "notes": InvalidInput,
    }
    assert made.evaluation.rivals == ("photos/apple/gala",)
    with pytest.raises(ReferenceSetRefused, match="photos/apple/few has 3 usable"):
        demo(space, photo_categories(space.folder / "catalog" / "few", "apple"))


def test_the_demo_again_uses_the_categories_that_are_there(space):
    categories = photo_categories(space.photos(6, name="catalog/fuji"), "apple")
    first, second = demo(space, categories), demo(space, categories)
    assert first.category == second.category
    assert second.fine_tune.version == 2
    assert len(space.records.find(ReferenceImage)) == 6
    assert len(space.records.find(AliasEvent)) == 2


def test_of_many_photos_a_seeded_few_are_taken(space):
    demo(space, photo_categories(space.photos(NUM_PHOTOS + 5, name="catalog/fuji"), "apple"))
    chosen = space.records.find(ReferenceImage, category_id=category_at(space.records, "photos/apple/fuji").id)
    assert len(chosen) == NUM_PHOTOS


def test_a_folder_that_does_not_exist_is_an_error(space):
    with pytest.raises(InvalidInput, match="nowhere is not a folder"):
        photo_categories(space.folder / "nowhere", "apple")


def test_the_sample_catalog_is_departments_of_classes_of_varieties(space):
    folder = space.folder / "catalog" / "produce" / "bell-pepper" / "red"
    folder.mkdir(parents=True)
    (space.folder / "catalog" / "README.md").write_text("about")
    (category,) = sample_categories(space.folder / "catalog")
    assert (category.path, category.class_noun, category.folder) == ("produce/bell-pepper/red", "bell pepper", folder)
    assert category.rights == Rights(source="rendered by recipes/embedded", license="Apache-2.0")


def test_demos_with_other_seeds_take_the_same_photos(space):
    categories = photo_categories(space.photos(NUM_PHOTOS + 3, name="catalog/fuji"), "apple")
    demo(space, categories)
    taken = space.records.find(ReferenceImage)
    demo(space, categories, seed=1)
    assert space.records.find(ReferenceImage) == taken


def test_an_interrupted_demo_goes_on_with_its_run(space):
    categories = photo_categories(space.photos(6, name="catalog/fuji"), "apple")
    steps: list[int] = []
    space.trainer.before_step = steps.append
    with pytest.raises(Interrupted):
        demo(space, categories, stop=lambda: len(steps) == 2)
    demo(space, categories)
    assert len(space.records.find(TrainingRun)) == 1
    assert steps == [1, 2, 2]
