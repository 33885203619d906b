"""Where commands do their work: in a workspace of this machine (``local``) or on a server (``remote``). Knows neither.

Both give the same records, so that a command prints the same. A command that opens a workspace instead of a backend is
refused on a server.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from packshot.domain.access import AuditEntry
    from packshot.domain.batches import Batch
    from packshot.domain.catalog import Category
    from packshot.domain.errors import PackshotError
    from packshot.domain.evaluation import Evaluation
    from packshot.domain.generation import GeneratedImage
    from packshot.domain.models import AliasEvent, FineTune
    from packshot.domain.references import ReferenceImage, ReferenceSet
    from packshot.domain.templates import Scene, Template
    from packshot.domain.variables import Value
    from packshot.services.catalog import CategorySummary
    from packshot.services.estimates import Estimate
    from packshot.services.manifests import ManifestLine
    from packshot.services.models import Lineage, RegisteredBase
    from packshot.services.requests import PictureRequest
    from packshot.services.usage import UsageReport
    from packshot.web.job_states import JobState

Report = Callable[..., None]


@dataclass(frozen=True, kw_only=True)
class TrainingRequest:
    """What ``packshot train`` asks for. ``values`` are those of the configuration that were given."""

    paths: Sequence[str]
    every: str | None
    base: str
    values: Mapping[str, object]
    detach: bool
    dry_run: bool


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """What a request for pictures led to: the prompt, and every picture with its PNG."""

    prompt: str
    images: "Sequence[GeneratedImage]"
    pngs: Sequence[bytes]


@dataclass(frozen=True, kw_only=True)
class BatchAsked:
    """What ``packshot batch`` asks for: ``settings`` of the sampling, and ``own`` ones that go before the templates'."""

    paths: Sequence[str]
    templates: Sequence[str]
    variables: "Mapping[str, Value]"
    settings: Mapping[str, Any]
    own: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class MadeBatch:
    """A batch that has ended, with ``error`` where it failed; its pictures are read one by one, or as an archive."""

    batch: "Batch"
    lines: "Sequence[ManifestLine]"
    error: "PackshotError | None"
    sheet: Callable[[], bytes]
    picture: "Callable[[ManifestLine], bytes]"
    archive: Callable[[], bytes]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """An evaluation with its files."""

    evaluation: "Evaluation"
    version: int
    files: Mapping[str, bytes]


@dataclass(frozen=True, kw_only=True)
class Curation:
    """Every photo of a category with its verdict, and what would make the set better."""

    images: "Sequence[ReferenceImage]"
    advice: Sequence[str]
    freezable: bool


@dataclass(frozen=True, kw_only=True)
class Ancestry:
    """A lineage, with what stored files add: ``source`` of an import (None where it is not at hand), and more lines."""

    lineage: "Lineage"
    source: Mapping[str, Any] | None = None
    more: Sequence[str] = ()


class Backend(Protocol):
    """What commands need that work in both places. A category is named by its path or its identifier."""

    def add_category(self, path: str, class_noun: str, identifier: str | None) -> "Category":
        """Reserve a path and an identifier."""
        ...

    def categories(self) -> "Sequence[CategorySummary]":
        """The catalog, by path."""
        ...

    def category(self, name: str) -> "CategorySummary":
        """A category with its sets, versions and what serves."""
        ...

    def retire_category(self, name: str) -> "Category":
        """Take a category out of use."""
        ...

    def add_references(
        self, name: str, photos: Sequence[Path], urls: Sequence[str], source: str, license_: str
    ) -> "list[ReferenceImage]":
        """Take in photos, and those at ``urls``."""
        ...

    def check_references(self, name: str) -> Curation:
        """The curation report."""
        ...

    def freeze_references(self, name: str) -> "ReferenceSet":
        """Freeze the accepted photos."""
        ...

    def train(self, request: TrainingRequest, as_json: bool) -> None:
        """Train, and print what came of it."""
        ...

    def promote(self, name: str, fine_tune: "FineTune", reason: str) -> "AliasEvent":
        """Put a version into service."""
        ...

    def roll_back(self, name: str, reason: str) -> "AliasEvent":
        """Put the version back into service that served before."""
        ...

    def ancestry(self, reference: str) -> Ancestry:
        """Where an image (by id) or a fine-tune (``PATH[@VERSION]``) comes from."""
        ...

    def add_template(self, name: str, scene: "Scene") -> "Template":
        """Append a version to a template."""
        ...

    def templates(self) -> "Sequence[Template]":
        """Every version of every template."""
        ...

    def template(self, reference: str) -> "Template":
        """``NAME`` (its newest version) or ``NAME@VERSION``."""
        ...

    def keep_layout(self, picture: Path) -> str:
        """Take in a picture that others begin from; returns what ``SamplingSettings.layout`` takes."""
        ...

    def generate(self, request: "PictureRequest", report: Report) -> Pictures:
        """Make pictures."""
        ...

    def estimate_batch(self, asked: BatchAsked) -> "Estimate":
        """What ``make_batch`` would make and take."""
        ...

    def make_batch(self, asked: BatchAsked) -> MadeBatch:
        """Make the pictures of a batch, or go on with the unfinished one that asks for the same."""
        ...

    def evaluate(self, reference: str, images_per_scene: int, seed: int) -> Measured:
        """Measure ``PATH[@VERSION]`` against its bare base."""
        ...

    def bases(self) -> "Sequence[RegisteredBase]":
        """The registered base models, the oldest first."""
        ...

    def trained_on(self, base: "RegisteredBase") -> Sequence[str]:
        """Every fine-tune of ``base`` as ``PATH@VERSION``."""
        ...

    def usage(self, namespace: str | None, since: datetime | None, until: datetime | None) -> "UsageReport":
        """What was used, and its price."""
        ...

    def audit(self, namespace: str | None) -> "Sequence[AuditEntry]":
        """Who did what."""
        ...

    def jobs(self, status: str) -> "Sequence[JobState]":
        """The jobs, all or those in that status."""
        ...

    def job(self, job_id: str) -> "JobState":
        """Where a job stands."""
        ...

    def watch_job(self, job_id: str, report: "Callable[[JobState], None]") -> "JobState":
        """Tell each change of a job until it has ended, however it ends."""
        ...

    def cancel_job(self, job_id: str) -> "JobState":
        """End a job that waits or runs."""
        ...

    def retry_job(self, job_id: str) -> "JobState":
        """Queue a job anew that failed or was canceled."""
        ...
