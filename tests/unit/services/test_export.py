"""Exporting: what is asked of the exporter."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from packshot.domain.errors import CorruptArtifact
from packshot.domain.models import BaseModelRef, ExportFormat
from packshot.ports import LoadedFineTune
from packshot.services.export import export_fine_tune


@dataclass
class FakeExporter:
    """Writes the weights under the title, and notes the base."""

    bases: list[BaseModelRef] = field(default_factory=list)

    def export(
        self, base: BaseModelRef, fine_tune: LoadedFineTune, form: ExportFormat, title: str, out: Path
    ) -> list[Path]:
        self.bases.append(base)
        out.mkdir(exist_ok=True)
        path = out / f"{title}.{form}"
        path.write_bytes(fine_tune.read())
        return [path]


def test_a_fine_tune_is_exported_under_the_name_of_its_category_and_version(space, tmp_path):
    fine_tune = space.fine_tune(space.category())
    exporter = FakeExporter()
    (written,) = export_fine_tune(space.records, space.blobs, exporter, fine_tune, ExportFormat.KOHYA, tmp_path / "out")
    assert written.name == "produce-apple-fuji-v1.kohya"
    assert written.read_bytes() == space.blobs.get(fine_tune.artifact("weights.safetensors").sha256)
    assert [base.id for base in exporter.bases] == [fine_tune.base_id]


def test_damaged_weights_are_not_exported(space, tmp_path):
    fine_tune = space.fine_tune(space.category())
    space.blobs.damage(fine_tune.artifact("weights.safetensors").sha256)
    with pytest.raises(CorruptArtifact):
        export_fine_tune(space.records, space.blobs, FakeExporter(), fine_tune, ExportFormat.DIFFUSERS, tmp_path)
