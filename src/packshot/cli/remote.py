"""Implements Backend with ``packshot.Client``: the same commands on a server, which prints and keeps nothing here."""

import re
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, cast

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
from packshot.cli.estimates import estimate_text
from packshot.cli.output import progress_shown, say, show, table
from packshot.cli.training_cost import config_rows
from packshot.client import Client
from packshot.domain.access import AuditEntry
from packshot.domain.catalog import Category
from packshot.domain.errors import InvalidInput, JobFailed, NotFound, PackshotError, WorkspaceNeeded
from packshot.domain.generation import GeneratedImage
from packshot.domain.models import AliasEvent, FineTune
from packshot.domain.presets import parse_config
from packshot.domain.references import ReferenceImage, ReferenceSet
from packshot.domain.templates import Scene, Template
from packshot.ports import Progress
from packshot.services.catalog import CategorySummary
from packshot.services.estimates import Estimate
from packshot.services.models import RegisteredBase, base_among, split_version, version_among
from packshot.services.requests import PictureRequest
from packshot.services.usage import UsageReport
from packshot.web.job_states import JobState
from packshot.web.schemas import BatchJob, EvaluationJob, GenerationJob, Training

_PROGRESS = re.compile(r"(?P<phase>.+) (?P<step>\d+)/(?P<num_steps>\d+)")


@dataclass(frozen=True)
class RemoteBackend:
    """Works on the server of ``client``, in the namespace of its key."""

    client: Client

    def _identifier(self, name: str) -> str:
        """The identifier of the category that is called ``name``."""
        for category in self.client.categories(name):
            if name in (category.path, category.identifier):
                return category.identifier
        raise NotFound(f"there is no category {name!r} on the server; see them with: packshot category list")

    def add_category(self, path: str, class_noun: str, identifier: str | None) -> Category:
        """Reserve a path and an identifier."""
        return self.client.create_category(path, class_noun=class_noun, identifier=identifier)

    def categories(self) -> Sequence[CategorySummary]:
        """The catalog, by path."""
        return self.client.catalog()

    def category(self, name: str) -> CategorySummary:
        """A category with its sets, versions and what serves."""
        return self.client.category(self._identifier(name))

    def retire_category(self, name: str) -> Category:
        """Take a category out of use."""
        return self.client.retire_category(self._identifier(name))

    def add_references(
        self, name: str, photos: Sequence[Path], urls: Sequence[str], source: str, license_: str
    ) -> list[ReferenceImage]:
        """Upload photos, and have those at ``urls`` fetched."""
        identifier, add, fetch = self._identifier(name), self.client.add_references, self.client.add_reference_urls
        taken = add(identifier, photos, source=source, license=license_) if photos else []
        return [*taken, *(fetch(identifier, urls, source=source, license=license_) if urls else [])]

    def check_references(self, name: str) -> Curation:
        """The curation report."""
        report = self.client.references(self._identifier(name))
        return Curation(images=report.images, advice=report.advice, freezable=report.freezable)

    def freeze_references(self, name: str) -> ReferenceSet:
        """Freeze the accepted photos."""
        return self.client.freeze_references(self._identifier(name))

    def train(self, request: TrainingRequest, as_json: bool) -> None:
        """Have a worker of the server train, and watch it; Ctrl-C ends the watching alone."""
        if request.every is not None or len(request.paths) != 1:
            raise InvalidInput("on a server train one category at a time; its workers take what waits together")
        (path,) = request.paths
        values = cast("dict[str, Any]", dict(request.values))
        if request.dry_run:
            self._foresee(path, request.base, values, as_json)
            return
        training = self.client.train(self._identifier(path), base=request.base, **values)
        if request.detach:
            ids = {"job_id": training.job_id, "run_id": training.id}
            show(ids, as_json, lambda: f"job {training.job_id} is left to the server's workers")
            return
        _say_where(training.job_id)
        with progress_shown() as report:
            done = self.client.watch_training(training.id, report=lambda state: _tell(report, state))
        made = next(each for each in self.client.fine_tunes(done.category) if each.id == done.fine_tune_id)
        show(made, as_json, lambda: f"{path}@{made.version}: {made.method}, {done.config.steps} steps")

    def _foresee(self, path: str, source: str, values: dict[str, Any], as_json: bool) -> None:
        """Print the whole configuration, and what the server expects by the trainings that it has finished."""
        base = base_among(self.client.bases(), source)
        config = parse_config(values, base_resolution=base.resolution, family=base.family)
        estimate = self.client.estimate_training(self._identifier(path), base=base.id, **values)
        rows = config_rows(config)
        value = {"config": config, "estimate": estimate, "categories": 1}
        show(value, as_json, lambda: f"{table(['key', 'value'], rows)}\n\n{estimate_text(estimate)}")

    def promote(self, name: str, fine_tune: FineTune, reason: str) -> AliasEvent:
        """Put a version into service."""
        return self.client.promote(self._identifier(name), fine_tune.id, reason=reason)

    def roll_back(self, name: str, reason: str) -> AliasEvent:
        """Put the version back into service that served before."""
        return self.client.rollback(self._identifier(name), reason=reason)

    def ancestry(self, reference: str) -> Ancestry:
        """Where an image or a fine-tune comes from."""
        if reference.startswith("img_"):
            return Ancestry(lineage=self.client.lineage(reference))
        versions = self.category(reference.partition("@")[0]).fine_tunes
        return Ancestry(lineage=self.client.lineage(version_among(versions, reference).id))

    def add_template(self, name: str, scene: Scene) -> Template:
        """Append a version to a template."""
        return self.client.add_template(name, **asdict(scene))

    def templates(self) -> Sequence[Template]:
        """Every version of every template."""
        return self.client.templates()

    def template(self, reference: str) -> Template:
        """One version of a template."""
        return self.client.template(reference)

    def keep_layout(self, picture: Path) -> str:
        """The picture as the API takes it; it goes along with the request."""
        try:
            return b64encode(picture.read_bytes()).decode()
        except OSError as error:
            raise InvalidInput(f"{picture} cannot be read ({error.strerror}); check the path") from error

    def generate(self, request: PictureRequest, report: Report) -> Pictures:
        """Have pictures made, and fetch them; Ctrl-C cancels them."""
        more = {"version": request.version, "base": request.base}
        asked = self.client.start_generation(
            request.prompt,
            model=request.model,
            template=request.template,
            variables=request.variables,
            boxes=[box.edges for box in request.boxes],
            **request.settings,
            **{name: value for name, value in more.items() if value is not None},
        )
        try:
            made = self.client.wait_for_generation(asked.id, report=lambda state: _tell(report, state))
        except KeyboardInterrupt:
            self.client.cancel_generation(asked.id)
            raise
        images = [
            GeneratedImage(id=each.id, generation_id=made.id, number=each.number, seed=each.seed, sha256=each.sha256)
            for each in made.images
        ]
        return Pictures(prompt=made.prompt, images=images, pngs=[self.client.image(each.id) for each in images])

    def estimate_batch(self, asked: BatchAsked) -> Estimate:
        """What ``make_batch`` would make and take."""
        categories = [self._identifier(path) for path in asked.paths]
        settings = {**asked.settings, **asked.own}
        return self.client.estimate_batch(categories, asked.templates, variables=asked.variables, **settings)

    def make_batch(self, asked: BatchAsked) -> MadeBatch:
        """Have the server make a batch, and watch it; after Ctrl-C it goes on, and the same command watches it again."""
        categories = [self._identifier(path) for path in asked.paths]
        settings = {**asked.settings, **asked.own}
        queued = self.client.start_batch(categories, asked.templates, variables=asked.variables, **settings)
        _say_where(queued.job_id)
        error: PackshotError | None = None
        try:
            with progress_shown() as report:
                self.client.wait_for_batch(queued.id, report=lambda state: _tell(report, state))
        except JobFailed as failed:
            error = failed
        return MadeBatch(
            batch=next(each for each in self.client.batches() if each.id == queued.id),
            lines=self.client.batch_manifest(queued.id),
            error=error,
            sheet=lambda: self.client.batch_sheet(queued.id),
            picture=lambda line: self.client.image(line.image_id),
            archive=lambda: self.client.batch_pictures(queued.id),
        )

    def evaluate(self, reference: str, images_per_scene: int, seed: int) -> Measured:
        """Have the server measure a version, and watch it; after Ctrl-C it goes on, as with ``make_batch``."""
        path, _ = split_version(reference)
        fine_tune = version_among(self.category(path).fine_tunes, reference)
        asked = self.client.evaluate(fine_tune.id, images_per_scene=images_per_scene, seed=seed)
        assert asked.job_id
        _say_where(asked.job_id)
        with progress_shown() as report:
            done = self.client.wait_for_evaluation(asked.id, report=lambda state: _tell(report, state))
        assert done.evaluation
        files = {each.name: self.client.evaluation_file(done.id, each.name) for each in done.evaluation.artifacts}
        return Measured(evaluation=done.evaluation, version=fine_tune.version, files=files)

    def bases(self) -> Sequence[RegisteredBase]:
        """The base models that the server's operator has registered."""
        return self.client.bases()

    def trained_on(self, base: RegisteredBase) -> Sequence[str]:
        """Every fine-tune of ``base`` in the namespace of the key."""
        paths = {category.id: category.path for category in self.client.categories()}
        made = [each for each in self.client.fine_tunes() if each.base_id == base.id]
        return [f"{paths[each.category_id]}@{each.version}" for each in made]

    def usage(self, namespace: str | None, since: datetime | None, until: datetime | None) -> UsageReport:
        """What the namespace of the key used, and its price."""
        _check_namespace(namespace)
        return self.client.usage(since, until)

    def audit(self, namespace: str | None) -> Sequence[AuditEntry]:
        """Who did what in the namespace of the key."""
        _check_namespace(namespace)
        return self.client.audit()

    def jobs(self, status: str) -> Sequence[JobState]:
        """The jobs of the namespace of the key."""
        return self.client.jobs(status)

    def job(self, job_id: str) -> JobState:
        """Where a job stands."""
        return self.client.job(job_id)

    def watch_job(self, job_id: str, report: Callable[[JobState], None]) -> JobState:
        """Listen to a job until it has ended."""
        try:
            return self.client.watch(job_id, report=report)
        except JobFailed:
            return self.client.job(job_id)

    def cancel_job(self, job_id: str) -> JobState:
        """End a job that waits or runs."""
        return self.client.cancel_job(job_id)

    def retry_job(self, job_id: str) -> JobState:
        """Queue a job anew that failed or was canceled."""
        return self.client.retry_job(job_id)


def _say_where(job_id: str) -> None:
    say(f"job {job_id} is on the server; after Ctrl-C it goes on: packshot job watch {job_id}")


def _tell(report: Report, state: GenerationJob | Training | BatchJob | EvaluationJob) -> None:
    found = _PROGRESS.fullmatch(state.message)
    if found:
        report(Progress(phase=found["phase"], step=int(found["step"]), num_steps=int(found["num_steps"])))


def _check_namespace(namespace: str | None) -> None:
    if namespace is not None:
        raise WorkspaceNeeded("a key sees its own namespace alone; leave --namespace out, or ask in the workspace")
