"""Fine-tunes in other forms: the files of other tools, and smaller ones of our own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from packshot.domain.models import BaseModelRef, ExportFormat, SourceFile
from packshot.domain.training_choices import Method, MixedPrecision
from packshot.ports.generation import LoadedFineTune


class Exporter(Protocol):
    """Writes fine-tunes as files that other tools read."""

    def export(
        self, base: BaseModelRef, fine_tune: LoadedFineTune, form: ExportFormat, title: str, out: Path
    ) -> list[Path]:
        """Write the files, whose names begin with ``title`` where the layout leaves that free; returns their paths.

        Raises InvalidInput where the layout has no place for the method.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class CompressedWeights:
    """A smaller file of a full fine-tune. ``relative_error`` is the share of what was learned that it leaves out."""

    method: Method
    weights: bytes
    relative_error: float


class Compressor(Protocol):
    """Makes full fine-tunes small."""

    def compress(
        self, base: BaseModelRef, fine_tune: LoadedFineTune, *, rank: int, delta: MixedPrecision
    ) -> CompressedWeights:
        """An adapter of at most ``rank``, or with a ``delta`` of bf16 or fp16 every difference in those floats.

        Raises InvalidInput where it is no full fine-tune.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class ForeignFile:
    """A file to import, and the headers that it carries."""

    path: Path
    record: SourceFile
    headers: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class ForeignFiles:
    """What was found to import. ``pipeline`` is its folder where it is one; ``base_digest`` the base it names, or ""."""

    files: tuple[ForeignFile, ...]
    pipeline: Path | None
    base_digest: str


@dataclass(frozen=True, kw_only=True)
class ImportedWeights:
    """Foreign files as a fine-tune's own file; see ``FineTune`` for the rest."""

    layout: ExportFormat
    method: Method
    token: str
    trained_phrase: str
    weights: bytes


class Importer(Protocol):
    """Reads fine-tunes that other tools wrote, and our own exports. Never loads a pickle."""

    def find(self, paths: Sequence[Path]) -> ForeignFiles:
        """The files at ``paths`` with their headers. Raises ImportRefused where they cannot be read safely."""
        ...

    def convert(
        self, base: BaseModelRef, found: ForeignFiles, *, class_noun: str, trigger: str, method: Method | None
    ) -> ImportedWeights:
        """What was found as a fine-tune of ``base``. An empty ``trigger`` and no ``method`` are taken from the files.

        Raises ImportRefused where a layout is not known or the trigger phrase is, IncompatibleFineTune where names or
        shapes do not fit the base.
        """
        ...
