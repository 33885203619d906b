"""Importing: what is asked of the importer, and what is recorded."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from photos import RED

from packshot.domain.errors import CategoryRetired, ImportRefused, IncompatibleFineTune, NotFound
from packshot.domain.models import BaseModelRef, ExportFormat, FineTune, Import, SourceFile
from packshot.domain.training_choices import Method
from packshot.ports import ForeignFile, ForeignFiles, ImportedWeights
from packshot.services.catalog import retire_category
from packshot.services.evaluation import Suite, evaluate
from packshot.services.importing import import_fine_tune
from packshot.services.models import lineage_of, promote, serving_fine_tune

SUITE = Suite(images_per_scene=1, class_images=2)


@dataclass
class FakeImporter:
    """Files that name ``base_digest``; notes the bases that it converts for, and refuses where there is no trigger."""

    base_digest: str = ""
    bases: list[BaseModelRef] = field(default_factory=list)

    def find(self, paths: Sequence[Path]) -> ForeignFiles:
        files = tuple(
            ForeignFile(
                path=path,
                record=SourceFile(name=path.name, sha256="7" * 64, num_bytes=12),
                headers={"ss_output_name": "fuji"},
            )
            for path in paths
        )
        return ForeignFiles(files=files, pipeline=None, base_digest=self.base_digest)

    def convert(
        self, base: BaseModelRef, found: ForeignFiles, *, class_noun: str, trigger: str, method: Method | None
    ) -> ImportedWeights:
        self.bases.append(base)
        if not trigger:
            raise ImportRefused("say it with --trigger")
        return ImportedWeights(
            layout=ExportFormat.KOHYA,
            method=method or Method.LORA,
            token="",
            trained_phrase=trigger,
            weights=json.dumps({"colour": RED, "phrase": trigger, "base": base.digest, "noun": class_noun}).encode(),
        )


def take_in(space, category, importer=None, **options) -> FineTune:
    return import_fine_tune(
        space.records,
        space.blobs,
        space.bases,
        importer or FakeImporter(),
        category,
        [Path("fuji.safetensors")],
        **{"trigger": "ohwx apple", "code_revision": "0.1.0+git.abc", **options},
    )


def test_an_import_is_the_next_version_with_its_source(space):
    category = space.category()
    trained = space.fine_tune(category)
    fine_tune = take_in(space, category)
    assert (fine_tune.version, fine_tune.training_run_id) == (2, None)
    assert (fine_tune.method, fine_tune.trained_phrase, fine_tune.base_id) == ("lora", "ohwx apple", trained.base_id)
    file = SourceFile(name="fuji.safetensors", sha256="7" * 64, num_bytes=12)
    assert fine_tune.imported == Import(layout=ExportFormat.KOHYA, files=(file,))
    source = json.loads(space.blobs.get(fine_tune.artifact("source.json").sha256))
    assert source == {"files": [{**vars(file), "headers": {"ss_output_name": "fuji"}}]}
    assert json.loads(space.blobs.get(fine_tune.artifact("weights.safetensors").sha256))["noun"] == "apple"
    lineage = lineage_of(space.records, f"{category.path}@2")
    assert (lineage.fine_tune, lineage.run, lineage.reference_set) == (fine_tune, None, None)
    assert space.fine_tune(category, seed=1).version == 3


def test_an_import_is_promoted_and_measured_against_the_newest_set(space):
    category = space.category()
    fine_tune = take_in(space, category)
    evaluation = evaluate(space.records, space.blobs, space.generator, space.judge, fine_tune, suite=SUITE)
    assert evaluation.fine_tune_id == fine_tune.id
    promote(space.records, fine_tune, reason="it is the one from the agency")
    assert serving_fine_tune(space.records, category) == fine_tune
    without = take_in(space, space.category("gala", num_photos=0))
    with pytest.raises(NotFound, match="references freeze"):
        evaluate(space.records, space.blobs, space.generator, space.judge, without, suite=SUITE)


def test_the_base_is_the_one_that_was_asked_for_or_that_the_files_name(space):
    category = space.category()
    known = space.base("some/base")
    named = FakeImporter(base_digest=known.digest)
    assert take_in(space, category, named).base_id == known.id
    asked = FakeImporter(base_digest=known.digest)
    take_in(space, category, asked, base="another/base")
    assert [base.source for base in asked.bases] == ["another/base"]
    plain = FakeImporter()
    take_in(space, category, plain)
    assert [base.source for base in plain.bases] == ["embedded"]
    with pytest.raises(IncompatibleFineTune, match="eeeeeeeeeeee.*--base"):
        take_in(space, category, FakeImporter(base_digest="e" * 64))


def test_a_refused_import_leaves_nothing(space):
    category = space.category()
    blobs = set(space.blobs)
    with pytest.raises(ImportRefused):
        take_in(space, category, trigger="", base="another/base")
    assert space.records.find(FineTune) == []
    assert space.records.find(BaseModelRef) == []
    assert set(space.blobs) == blobs
    retire_category(space.records, category.path)
    with pytest.raises(CategoryRetired):
        take_in(space, space.records.get(type(category), category.id))


def test_a_fine_tune_has_exactly_one_origin(space):
    imported = take_in(space, space.category())
    with pytest.raises(AssertionError, match="one origin"):
        replace(imported, training_run_id="run_1")
    with pytest.raises(AssertionError, match="one origin"):
        replace(imported, imported=None)
