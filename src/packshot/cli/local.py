"""Implements Backend with the services, in a workspace of this machine."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

from packshot.bootstrap import Workspace, code_revision
from packshot.cli.backend import (
    Ancestry,
    BatchAsked,
    Curation,
    MadeBatch,
    Measured,
    Pictures,
    Report,
    TrainingRequest,
)
from packshot.cli.output import operator, progress_shown, say
from packshot.domain.access import AuditAction, AuditEntry
from packshot.domain.batches import Batch
from packshot.domain.catalog import Category
from packshot.domain.errors import InvalidInput, JobFailed, PackshotError
from packshot.domain.generation import SamplingSettings
from packshot.domain.jobs import Job
from packshot.domain.models import EMBEDDED_BASE, AliasEvent, BaseModelRef, FineTune
from packshot.domain.references import ReferenceImage, ReferenceSet, Rights
from packshot.domain.templates import Scene, Template
from packshot.imaging.folders import read_photos
from packshot.services import catalog, models, references, templates
from packshot.services.audit import audited
from packshot.services.batches import BatchRequest, estimate_batch, plan_batch
from packshot.services.catalog import CategorySummary, category_named
from packshot.services.compression import REPORT, fidelity_loss
from packshot.services.estimates import Estimate
from packshot.services.evaluation import Suite, evaluate
from packshot.services.fetching import fetch_photos
from packshot.services.foreign import generate_foreign
from packshot.services.generation import generate, keep_layout
from packshot.services.importing import SOURCE
from packshot.services.jobs import cancel, check_succeeded
from packshot.services.manifests import batch_sheet, manifest, write_zip
from packshot.services.models import RegisteredBase
from packshot.services.requests import PictureRequest, resolve_request
from packshot.services.retrying import retry_job
from packshot.services.usage import UsageReport, report_usage
from packshot.web.job_states import JobState, job_state

_POLL_S = 0.5


@dataclass(frozen=True)
class LocalBackend:
    """Works in ``space``, which must stay open."""

    space: Workspace

    @property
    def _namespace(self) -> str:
        return self.space.settings.namespace

    def _named(self, name: str) -> Category:
        return category_named(self.space.records, name, self._namespace)

    def add_category(self, path: str, class_noun: str, identifier: str | None) -> Category:
        """Reserve a path and an identifier."""
        return catalog.add_category(
            self.space.records, path=path, class_noun=class_noun, identifier=identifier, namespace=self._namespace
        )

    def categories(self) -> Sequence[CategorySummary]:
        """The catalog, by path."""
        return catalog.list_categories(self.space.records, self._namespace)

    def category(self, name: str) -> CategorySummary:
        """A category with its sets, versions and what serves."""
        return catalog.summarise(self.space.records, self._named(name))

    def retire_category(self, name: str) -> Category:
        """Take a category out of use."""
        with audited(self.space.records, operator(), AuditAction.RETIRE, namespace=self._namespace, subject=name):
            return catalog.retire_category(self.space.records, self._named(name).path, self._namespace)

    def add_references(
        self, name: str, photos: Sequence[Path], urls: Sequence[str], source: str, license_: str
    ) -> list[ReferenceImage]:
        """Take in photos, and those at ``urls``."""
        category, rights = self._named(name), Rights(source=source, license=license_)
        files = read_photos(list(photos))
        with TemporaryDirectory(prefix="packshot-") as folder:
            fetched = fetch_photos(self.space.fetcher, urls, Path(folder), {})
            return references.add_references(self.space.records, self.space.blobs, category, [*files, *fetched], rights)

    def check_references(self, name: str) -> Curation:
        """The curation report."""
        report = references.check_references(self.space.records, self._named(name))
        return Curation(images=report.images, advice=report.advice, freezable=report.freezable)

    def freeze_references(self, name: str) -> ReferenceSet:
        """Freeze the accepted photos."""
        return references.freeze_references(self.space.records, self._named(name))

    def train(self, request: TrainingRequest, as_json: bool) -> None:
        """Train here, or leave it to a worker of this workspace."""
        from packshot.cli.training import train_here

        train_here(self.space, request, as_json)

    def promote(self, name: str, fine_tune: FineTune, reason: str) -> AliasEvent:
        """Put a version into service."""
        subject = f"{name}@{fine_tune.version}"
        with audited(
            self.space.records,
            operator(),
            AuditAction.PROMOTE,
            namespace=self._namespace,
            subject=subject,
            reason=reason,
        ):
            return models.promote(self.space.records, fine_tune, reason=reason)

    def roll_back(self, name: str, reason: str) -> AliasEvent:
        """Put the version back into service that served before."""
        category = self._named(name)
        with audited(
            self.space.records, operator(), AuditAction.ROLLBACK, namespace=self._namespace, subject=name, reason=reason
        ):
            return models.roll_back(self.space.records, category, reason=reason)

    def ancestry(self, reference: str) -> Ancestry:
        """Where an image or a fine-tune comes from."""
        space = self.space
        lineage = models.lineage_of(space.records, reference, self._namespace)
        if lineage.fine_tune is None:
            return Ancestry(lineage=lineage)
        source: Mapping[str, Any] | None = None
        if lineage.fine_tune.imported:
            source = json.loads(space.blobs.get(lineage.fine_tune.artifact(SOURCE).sha256))
        return Ancestry(lineage=lineage, source=source, more=self._compressed(lineage.fine_tune))

    def _compressed(self, fine_tune: FineTune) -> list[str]:
        if not fine_tune.compressed_from_id:
            return []
        whole = self.space.records.get(FineTune, fine_tune.compressed_from_id)
        told = json.loads(self.space.blobs.get(fine_tune.artifact(REPORT).sha256))
        loss = fidelity_loss(self.space.records, fine_tune)
        return [
            f"compressed  from version {whole.version}: {told['storage']}, relative error "
            f"{told['relative_error']:.2%}, fidelity lost {'not measured yet' if loss is None else f'{loss:.3f}'}"
        ]

    def add_template(self, name: str, scene: Scene) -> Template:
        """Append a version to a template."""
        return templates.add_template(self.space.records, name=name, scene=scene, namespace=self._namespace)

    def templates(self) -> Sequence[Template]:
        """Every version of every template."""
        return templates.list_templates(self.space.records, self._namespace)

    def template(self, reference: str) -> Template:
        """One version of a template."""
        return templates.template_at(self.space.records, reference, self._namespace)

    def keep_layout(self, picture: Path) -> str:
        """Take in a picture that others begin from."""
        try:
            data = picture.read_bytes()
        except OSError as error:
            raise InvalidInput(f"{picture} cannot be read ({error.strerror}); check the path") from error
        return keep_layout(self.space.blobs, data, picture.name)

    def generate(self, request: PictureRequest, report: Report) -> Pictures:
        """Make pictures here, or have another's image API make them."""
        space = self.space
        resolved = resolve_request(
            space.records, request, providers=space.foreign_generator.providers, namespace=self._namespace
        )
        common = {
            "code_revision": code_revision(),
            "namespace": self._namespace,
            "inscribe": space.inscribe,
            "report": report,
        }
        prompt, sampling = resolved.prompt, resolved.sampling
        if resolved.foreign:
            _, images = generate_foreign(
                space.records, space.blobs, space.foreign_generator, resolved.foreign, prompt, sampling, **common
            )
        else:
            source = request.base or EMBEDDED_BASE
            _, images = generate(
                space.records,
                space.blobs,
                space.generator,
                prompt,
                sampling,
                bare_base=lambda: models.register_base(space.records, space.bases.describe(source)),
                fine_tune=resolved.fine_tune,
                category=resolved.category,
                boxes=resolved.boxes,
                template=resolved.template,
                **common,
            )
        return Pictures(prompt=prompt, images=images, pngs=[space.blobs.get(image.sha256) for image in images])

    def estimate_batch(self, asked: BatchAsked) -> Estimate:
        """What ``make_batch`` would make and take."""
        return estimate_batch(self.space.records, self._batch(asked), price_per_hour=self.space.settings.price_per_hour)

    def make_batch(self, asked: BatchAsked) -> MadeBatch:
        """Make what is missing of a batch here; Ctrl-C stops it so that it can go on later."""
        from packshot.cli.training_several import carry_through

        space = self.space
        plan = plan_batch(
            space.records, self._batch(asked), code_revision(), admit=lambda: space.check_room(self._namespace)
        )
        if plan.resumed:
            say(f"going on with batch {plan.batch.id}")
        error: PackshotError | None = None
        try:
            check_succeeded(carry_through(space, plan.job.id))
        except JobFailed as failed:
            error = failed
        return MadeBatch(
            batch=plan.batch,
            lines=manifest(space.records, plan.batch),
            error=error,
            sheet=lambda: batch_sheet(space.records, space.blobs, plan.batch),
            picture=lambda line: space.blobs.get(line.sha256),
            archive=lambda: self._zipped(plan.batch),
        )

    def _batch(self, asked: BatchAsked) -> BatchRequest:
        records = self.space.records
        return BatchRequest(
            categories=[self._named(path) for path in asked.paths],
            templates=[templates.template_at(records, each, self._namespace) for each in asked.templates],
            variables=asked.variables,
            sampling=SamplingSettings(**asked.settings, **asked.own),
            own_settings=list(asked.own),
            namespace=self._namespace,
        )

    def _zipped(self, batch: Batch) -> bytes:
        with TemporaryFile() as archive:
            write_zip(self.space.records, self.space.blobs, batch, archive)
            archive.seek(0)
            return archive.read()

    def evaluate(self, reference: str, images_per_scene: int, seed: int) -> Measured:
        """Measure a version against its bare base, here."""
        space = self.space
        fine_tune = models.fine_tune_at(space.records, reference, self._namespace)
        suite = Suite(images_per_scene=images_per_scene, seed=seed)
        with progress_shown() as report:
            evaluation = evaluate(
                space.records, space.blobs, space.generator, space.judge, fine_tune, suite=suite, report=report
            )
        files = {each.name: space.blobs.get(each.sha256) for each in evaluation.artifacts}
        return Measured(evaluation=evaluation, version=fine_tune.version, files=files)

    def bases(self) -> Sequence[RegisteredBase]:
        """The registered base models."""
        return [models.with_prediction_type(self.space.bases, base) for base in self.space.records.find(BaseModelRef)]

    def trained_on(self, base: RegisteredBase) -> Sequence[str]:
        """Every fine-tune of ``base``, of all namespaces."""
        return models.trained_on(self.space.records, base)

    def usage(self, namespace: str | None, since: datetime | None, until: datetime | None) -> UsageReport:
        """What was used, and its price; of all namespaces where none is given."""
        price = self.space.settings.price_per_hour
        return report_usage(self.space.records, price_per_hour=price, namespace=namespace, since=since, until=until)

    def audit(self, namespace: str | None) -> Sequence[AuditEntry]:
        """Who did what; in all namespaces where none is given."""
        chosen: dict[str, Any] = {"namespace": namespace} if namespace else {}
        return self.space.records.find(AuditEntry, **chosen)

    def jobs(self, status: str) -> Sequence[JobState]:
        """The jobs of all namespaces."""
        chosen: dict[str, Any] = {"status": status} if status else {}
        return [job_state(job) for job in self.space.records.find(Job, **chosen)]

    def job(self, job_id: str) -> JobState:
        """Where a job stands."""
        return job_state(self.space.records.get(Job, job_id))

    def watch_job(self, job_id: str, report: Callable[[JobState], None]) -> JobState:
        """Look at a job until it has ended, and report each change."""
        last: JobState | None = None
        while last is None or not last.finished_at:
            if last:
                time.sleep(_POLL_S)
            now = self.job(job_id)
            if now != last:
                report(now)
            last = now
        return last

    def cancel_job(self, job_id: str) -> JobState:
        """End a job that waits or runs."""
        return job_state(cancel(self.space.records, job_id))

    def retry_job(self, job_id: str) -> JobState:
        """Queue a job anew that failed or was canceled."""
        namespace = self.space.records.get(Job, job_id).namespace
        return job_state(retry_job(self.space.records, job_id, admit=lambda: self.space.check_room(namespace)))
