"""Use case: files of other tools, or our own exports, become a new version of a category. Knows no layout."""

from collections.abc import Sequence
from pathlib import Path

from packshot.domain.catalog import Category, check_in_use
from packshot.domain.errors import IncompatibleFineTune
from packshot.domain.models import EMBEDDED_BASE, Artifact, BaseModelRef, FineTune, Import
from packshot.domain.training_choices import Method
from packshot.ports import BaseModels, Blobs, ForeignFiles, ImportedWeights, Importer, Records
from packshot.services.catalog import new_id, now
from packshot.services.json_text import to_json
from packshot.services.models import next_version, register_base
from packshot.services.training import WEIGHTS

SOURCE = "source.json"


def import_fine_tune(
    records: Records,
    blobs: Blobs,
    bases: BaseModels,
    importer: Importer,
    category: Category,
    paths: Sequence[Path],
    *,
    base: str = "",
    trigger: str = "",
    method: Method | None = None,
    code_revision: str,
) -> FineTune:
    """Take what lies at ``paths`` in as the next version of ``category``; all of it is recorded, or nothing.

    ``base`` is ``embedded``, a folder or a hub id; without it, the base that the files name, or else the bundled one. An
    empty ``trigger`` and no ``method`` are taken from the files. Their headers are kept in ``source.json``.

    Raises:
        ImportRefused: a pickle, a layout that is not read, or no trigger phrase.
        IncompatibleFineTune: the files do not fit the base.
        CategoryRetired: the category is out of use.
        BaseModelRefused, CorruptArtifact: the base cannot be loaded.
    """
    check_in_use(category)
    found = importer.find(paths)
    chosen = _base(records, bases, base, found)
    read = importer.convert(chosen, found, class_noun=category.class_noun, trigger=trigger, method=method)
    artifacts = _store(blobs, found, read)
    with records.transaction():
        check_in_use(records.get(Category, category.id))
        fine_tune = FineTune(
            id=new_id("ft"),
            category_id=category.id,
            version=next_version(records, category.id),
            imported=Import(layout=read.layout, files=tuple(file.record for file in found.files)),
            base_id=register_base(records, chosen).id,
            method=read.method,
            token=read.token,
            trained_phrase=read.trained_phrase,
            artifacts=artifacts,
            code_revision=code_revision,
            created_at=now(),
        )
        records.add(fine_tune)
    return fine_tune


def _base(records: Records, bases: BaseModels, source: str, found: ForeignFiles) -> BaseModelRef:
    """The base that was asked for, or that the files name; it may not be registered yet."""
    if source:
        return bases.describe(source)
    known = records.find(BaseModelRef, digest=found.base_digest) if found.base_digest else []
    if known:
        return known[-1]
    bundled = bases.describe(EMBEDDED_BASE)
    if found.base_digest and found.base_digest != bundled.digest:
        raise IncompatibleFineTune(
            f"the files were exported from a fine-tune of the base with the digest {found.base_digest[:12]}, which is not "
            "registered here; name it with --base"
        )
    return bundled


def _store(blobs: Blobs, found: ForeignFiles, read: ImportedWeights) -> tuple[Artifact, ...]:
    source = {"files": [{**vars(file.record), "headers": file.headers} for file in found.files]}
    files = {SOURCE: to_json(source).encode(), WEIGHTS: read.weights}
    return tuple(
        Artifact(name=name, sha256=blobs.put(data), num_bytes=len(data)) for name, data in sorted(files.items())
    )
