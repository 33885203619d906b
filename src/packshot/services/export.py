"""Use case: a fine-tune becomes files for other tools. Knows no layout."""

from pathlib import Path

from packshot.domain.catalog import Category
from packshot.domain.models import BaseModelRef, ExportFormat, FineTune
from packshot.ports import Blobs, Exporter, Records
from packshot.services.artifacts import load_fine_tune


def export_fine_tune(
    records: Records, blobs: Blobs, exporter: Exporter, fine_tune: FineTune, form: ExportFormat, out: Path
) -> list[Path]:
    """Write ``fine_tune`` into ``out``, named after its category and version; returns what was written.

    Raises:
        InvalidInput: the layout has no place for its method.
        CorruptArtifact, BaseModelRefused: what it needs cannot be loaded.
        WorkspaceUnusable: ``out`` cannot be written.
    """
    category = records.get(Category, fine_tune.category_id)
    title = f"{category.path.replace('/', '-')}-v{fine_tune.version}"
    base = records.get(BaseModelRef, fine_tune.base_id)
    return exporter.export(base, load_fine_tune(records, blobs, fine_tune), form, title, out)
