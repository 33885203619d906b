"""What both clients can do, one flow per use. Knows no connection; see ``flows``."""

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import MappingProxyType

from pydantic import TypeAdapter

from packshot.client.flows import Flow, Method, call, collect, exchange, wait, watch
from packshot.domain.access import AuditEntry
from packshot.domain.batches import Batch
from packshot.domain.catalog import Category
from packshot.domain.errors import InvalidInput
from packshot.domain.evaluation import Evaluation
from packshot.domain.models import EMBEDDED_BASE, AliasEvent, FineTune
from packshot.domain.references import ReferenceImage, ReferenceSet
from packshot.domain.templates import Template
from packshot.domain.variables import Value
from packshot.domain.webhooks import Delivery, Webhook
from packshot.services.catalog import CategorySummary
from packshot.services.estimates import Estimate
from packshot.services.manifests import ManifestLine
from packshot.services.models import Lineage, RegisteredBase
from packshot.services.usage import UsageReport
from packshot.services.webhooks import WebhookInfo
from packshot.web.job_states import JobState
from packshot.web.schemas import (
    ANY_CATEGORY,
    Alias,
    BatchJob,
    EvaluationJob,
    GenerationJob,
    Page,
    ReadEvaluation,
    References,
    Training,
)

_line = TypeAdapter(ManifestLine)
Edges = tuple[float, float, float, float]  # left, top, right and bottom of a box, as shares of the picture
Setting = str | int | float | bytes | Path
NO_VARIABLES: Mapping[str, Value] = MappingProxyType({})


class Methods:
    """Categories are named by their identifiers. Raises what ``packshot.domain.errors`` has for each refusal."""

    @Method
    def create_category(self, path: str, *, class_noun: str, identifier: str | None = None) -> Flow[Category]:
        """Reserve a path and an identifier for a new category."""
        body = {"path": path, "class_noun": class_noun, "identifier": identifier}
        return (yield from call(Category, "POST", "/v1/categories", json=body))

    @Method
    def categories(self, query: str = "") -> Flow[list[Category]]:
        """The categories whose names contain ``query``, by path."""
        return (yield from collect(Page[Category], "/v1/categories", q=query))

    @Method
    def catalog(self) -> Flow[list[CategorySummary]]:
        """Every category, by path, with its sets, versions and what serves."""
        return (yield from collect(Page[CategorySummary], "/v1/catalog"))

    @Method
    def category(self, identifier: str) -> Flow[CategorySummary]:
        """One category with its sets, versions and what serves."""
        return (yield from call(CategorySummary, "GET", f"/v1/categories/{identifier}"))

    @Method
    def retire_category(self, identifier: str) -> Flow[Category]:
        """Take a category out of use."""
        return (yield from call(Category, "POST", f"/v1/categories/{identifier}/retire"))

    @Method
    def add_references(
        self, identifier: str, paths: Sequence[Path | str], *, source: str = "", license: str = ""
    ) -> Flow[list[ReferenceImage]]:
        """Upload photos: files, zip archives, or folders with their captions and masks. InvalidInput: none there."""
        options = {"files": _read_files(paths), "data": {"source": source, "license": license}}
        return (yield from call(list[ReferenceImage], "POST", f"/v1/categories/{identifier}/references", **options))

    @Method
    def add_reference_urls(
        self,
        identifier: str,
        urls: Sequence[str],
        *,
        captions: Mapping[str, str] = MappingProxyType({}),
        source: str = "",
        license: str = "",
    ) -> Flow[list[ReferenceImage]]:
        """Have the server fetch photos; ``captions`` are by URL. Those that cannot be fetched are refused."""
        body = {"urls": list(urls), "captions": dict(captions), "source": source, "license": license}
        return (
            yield from call(list[ReferenceImage], "POST", f"/v1/categories/{identifier}/references/urls", json=body)
        )

    @Method
    def references(self, identifier: str) -> Flow[References]:
        """The curation report."""
        return (yield from call(References, "GET", f"/v1/categories/{identifier}/references"))

    @Method
    def freeze_references(self, identifier: str) -> Flow[ReferenceSet]:
        """Freeze the accepted photos into an immutable set."""
        return (yield from call(ReferenceSet, "POST", f"/v1/categories/{identifier}/references/freeze"))

    @Method
    def estimate_training(
        self, category: str, *, base: str = EMBEDDED_BASE, **config: str | int | float | bool
    ) -> Flow[Estimate]:
        """What ``train`` with the same arguments would make and take; nothing is recorded."""
        body = {"category": category, "base": base, "config": config, "dry_run": True}
        return (yield from call(Estimate, "POST", "/v1/trainings", json=body))

    @Method
    def train(self, category: str, *, base: str = EMBEDDED_BASE, **config: str | int | float | bool) -> Flow[Training]:
        """Queue a training of the newest frozen set; see it through with ``wait_for_training``."""
        body = {"category": category, "base": base, "config": config}
        return (yield from call(Training, "POST", "/v1/trainings", json=body))

    @Method
    def training(self, training_id: str) -> Flow[Training]:
        """Where a training stands."""
        return (yield from call(Training, "GET", f"/v1/trainings/{training_id}"))

    @Method
    def wait_for_training(
        self, training_id: str, *, report: Callable[[Training], None] = lambda _: None, poll_s: float = 1.0
    ) -> Flow[Training]:
        """The training once it has succeeded; ``report`` is told each change. JobFailed: it failed or was canceled."""
        return (yield from wait(Training, f"/v1/trainings/{training_id}", report, poll_s))

    @Method
    def watch_training(
        self, training_id: str, *, report: Callable[[Training], None] = lambda _: None
    ) -> Flow[Training]:
        """As ``wait_for_training``, told by the server as it happens instead of asked for again and again."""
        return (yield from watch(Training, f"/v1/trainings/{training_id}/events", report))

    @Method
    def jobs(self, status: str = "") -> Flow[list[JobState]]:
        """The jobs of the namespace, all or those in that status, the oldest first."""
        return (yield from collect(Page[JobState], "/v1/jobs", **({"status": status} if status else {})))

    @Method
    def job(self, job_id: str) -> Flow[JobState]:
        """Where a job stands."""
        return (yield from call(JobState, "GET", f"/v1/jobs/{job_id}"))

    @Method
    def cancel_job(self, job_id: str) -> Flow[JobState]:
        """End a job that waits or runs."""
        job = yield from call(JobState, "GET", f"/v1/jobs/{job_id}")
        yield from exchange("POST", job.urls.cancel)
        return (yield from call(JobState, "GET", f"/v1/jobs/{job_id}"))

    @Method
    def retry_job(self, job_id: str) -> Flow[JobState]:
        """Queue a job anew that failed or was canceled."""
        return (yield from call(JobState, "POST", f"/v1/jobs/{job_id}/retry"))

    @Method
    def watch(self, job_id: str, *, report: Callable[[JobState], None] = lambda _: None) -> Flow[JobState]:
        """A job of any kind once it has succeeded; ``report`` is told each change. JobFailed: it failed or was canceled."""
        return (yield from watch(JobState, f"/v1/jobs/{job_id}/events", report))

    @Method
    def trainings(self) -> Flow[list[Training]]:
        """The trainings of the namespace, the oldest first."""
        return (yield from collect(Page[Training], "/v1/trainings"))

    @Method
    def cancel_training(self, training_id: str) -> Flow[Training]:
        """End a training that waits or runs."""
        return (yield from call(Training, "POST", f"/v1/trainings/{training_id}/cancel"))

    @Method
    def fine_tunes(self, category: str | None = None) -> Flow[list[FineTune]]:
        """The versions of a category, or of all, the oldest first."""
        chosen = {} if category is None else {"category": category}
        return (yield from collect(Page[FineTune], "/v1/fine-tunes", **chosen))

    @Method
    def lineage(self, image_or_fine_tune_id: str) -> Flow[Lineage]:
        """Where an image or a fine-tune comes from, back to the reference photos."""
        kind = "images" if image_or_fine_tune_id.startswith("img_") else "fine-tunes"
        return (yield from call(Lineage, "GET", f"/v1/{kind}/{image_or_fine_tune_id}/lineage"))

    @Method
    def evaluations(self, fine_tune_id: str) -> Flow[list[Evaluation]]:
        """The evaluations of a version, the oldest first."""
        return (yield from collect(Page[ReadEvaluation], f"/v1/fine-tunes/{fine_tune_id}/evaluations"))

    @Method
    def estimate_evaluation(self, fine_tune_id: str, *, images_per_scene: int = 5, seed: int = 1000) -> Flow[Estimate]:
        """What ``evaluate`` with the same arguments would make and take; nothing is recorded."""
        body = {"fine_tune_id": fine_tune_id, "images_per_scene": images_per_scene, "seed": seed, "dry_run": True}
        return (yield from call(Estimate, "POST", "/v1/evaluations", json=body))

    @Method
    def evaluate(self, fine_tune_id: str, *, images_per_scene: int = 5, seed: int = 1000) -> Flow[EvaluationJob]:
        """Queue an evaluation; see it through with ``wait_for_evaluation``."""
        body = {"fine_tune_id": fine_tune_id, "images_per_scene": images_per_scene, "seed": seed}
        return (yield from call(EvaluationJob, "POST", "/v1/evaluations", json=body))

    @Method
    def evaluation(self, evaluation_id: str) -> Flow[EvaluationJob]:
        """Where an evaluation stands, and its scores once they are there."""
        return (yield from call(EvaluationJob, "GET", f"/v1/evaluations/{evaluation_id}"))

    @Method
    def wait_for_evaluation(
        self, evaluation_id: str, *, report: Callable[[EvaluationJob], None] = lambda _: None, poll_s: float = 1.0
    ) -> Flow[EvaluationJob]:
        """The evaluation once it has succeeded. JobFailed: it failed or was canceled."""
        return (yield from wait(EvaluationJob, f"/v1/evaluations/{evaluation_id}", report, poll_s))

    @Method
    def evaluation_file(self, evaluation_id: str, name: str) -> Flow[bytes]:
        """A file of an evaluation that has succeeded, such as sheet.png; ``artifacts`` lists them."""
        return (yield from exchange("GET", f"/v1/evaluations/{evaluation_id}/files/{name}")).content

    @Method
    def cancel_evaluation(self, evaluation_id: str) -> Flow[EvaluationJob]:
        """End an evaluation that waits or runs."""
        return (yield from call(EvaluationJob, "POST", f"/v1/evaluations/{evaluation_id}/cancel"))

    @Method
    def promote(self, category: str, fine_tune_id: str, *, reason: str = "") -> Flow[AliasEvent]:
        """Put a fine-tune into service."""
        body = {"fine_tune_id": fine_tune_id, "reason": reason}
        return (yield from call(AliasEvent, "POST", f"/v1/categories/{category}/alias/promote", json=body))

    @Method
    def rollback(self, category: str, *, reason: str = "") -> Flow[AliasEvent]:
        """Put the version back into service that served before."""
        body = {"reason": reason}
        return (yield from call(AliasEvent, "POST", f"/v1/categories/{category}/alias/rollback", json=body))

    @Method
    def alias(self, category: str) -> Flow[Alias]:
        """What serves a category, and the history of that."""
        return (yield from call(Alias, "GET", f"/v1/categories/{category}/alias"))

    @Method
    def add_template(self, name: str, **scene: object) -> Flow[Template]:
        """Append a version to a template; ``scene`` are the other keys of ``POST /v1/templates``."""
        return (yield from call(Template, "POST", "/v1/templates", json={"name": name, **scene}))

    @Method
    def templates(self) -> Flow[list[Template]]:
        """Every version of every template, by name, the oldest version first."""
        return (yield from collect(Page[Template], "/v1/templates"))

    @Method
    def template(self, reference: str) -> Flow[Template]:
        """``NAME`` (its newest version) or ``NAME@VERSION``."""
        return (yield from call(Template, "GET", f"/v1/templates/{reference}"))

    @Method
    def template_versions(self, name: str) -> Flow[list[Template]]:
        """The versions of a template, the oldest first."""
        return (yield from collect(Page[Template], f"/v1/templates/{name}/versions"))

    @Method
    def estimate_generation(
        self,
        prompt: str | None = None,
        *,
        model: str = ANY_CATEGORY,
        template: str | None = None,
        variables: Mapping[str, Value] = NO_VARIABLES,
        boxes: Sequence[Edges] = (),
        **settings: Setting,
    ) -> Flow[Estimate]:
        """What ``start_generation`` with the same arguments would make and take; nothing is recorded."""
        body = _request(prompt, model, template, variables, boxes, {**settings, "dry_run": True})
        return (yield from call(Estimate, "POST", "/v1/generations", json=body))

    @Method
    def start_generation(
        self,
        prompt: str | None = None,
        *,
        model: str = ANY_CATEGORY,
        template: str | None = None,
        variables: Mapping[str, Value] = NO_VARIABLES,
        boxes: Sequence[Edges] = (),
        **settings: Setting,
    ) -> Flow[GenerationJob]:
        """Queue a request for pictures, by a prompt or a template; ``settings`` are the rest of ``POST /v1/generations``.

        ``boxes`` are where the subjects of a prompt with several identifiers stand, in order of mention. ``layout`` may be
        a ``Path`` or the bytes of a picture too.
        """
        body = _request(prompt, model, template, variables, boxes, settings)
        return (yield from call(GenerationJob, "POST", "/v1/generations", json=body))

    @Method
    def generation(self, generation_id: str) -> Flow[GenerationJob]:
        """Where a request stands, and its pictures once they are made."""
        return (yield from call(GenerationJob, "GET", f"/v1/generations/{generation_id}"))

    @Method
    def wait_for_generation(
        self, generation_id: str, *, report: Callable[[GenerationJob], None] = lambda _: None, poll_s: float = 0.5
    ) -> Flow[GenerationJob]:
        """The request once its pictures are made. JobFailed: they could not be made."""
        return (yield from wait(GenerationJob, f"/v1/generations/{generation_id}", report, poll_s))

    @Method
    def generations(self) -> Flow[list[GenerationJob]]:
        """The requests for pictures of the namespace, the oldest first; those of batches too."""
        return (yield from collect(Page[GenerationJob], "/v1/generations"))

    @Method
    def cancel_generation(self, generation_id: str) -> Flow[GenerationJob]:
        """End a request that waits or runs."""
        return (yield from call(GenerationJob, "POST", f"/v1/generations/{generation_id}/cancel"))

    @Method
    def generate(
        self,
        prompt: str | None = None,
        *,
        model: str = ANY_CATEGORY,
        template: str | None = None,
        variables: Mapping[str, Value] = NO_VARIABLES,
        boxes: Sequence[Edges] = (),
        poll_s: float = 0.5,
        **settings: Setting,
    ) -> Flow[list[bytes]]:
        """The PNGs that answer a prompt or a template. JobFailed: they could not be made."""
        body = _request(prompt, model, template, variables, boxes, settings)
        asked = yield from call(GenerationJob, "POST", "/v1/generations", json=body)
        made = yield from wait(GenerationJob, asked.urls.get, lambda _: None, poll_s)
        pngs: list[bytes] = []
        for image in made.images:
            pngs.append((yield from exchange("GET", image.url)).content)
        return pngs

    @Method
    def estimate_batch(
        self,
        categories: Sequence[str],
        templates: Sequence[str],
        *,
        variables: Mapping[str, Value] = NO_VARIABLES,
        **settings: str | int | float,
    ) -> Flow[Estimate]:
        """What ``start_batch`` with the same arguments would make and take, and what would fail; nothing is recorded."""
        body = _batch(categories, templates, variables, {**settings, "dry_run": True})
        return (yield from call(Estimate, "POST", "/v1/batches", json=body))

    @Method
    def start_batch(
        self,
        categories: Sequence[str],
        templates: Sequence[str],
        *,
        variables: Mapping[str, Value] = NO_VARIABLES,
        **settings: str | int | float,
    ) -> Flow[BatchJob]:
        """Queue pictures of every category in every scene; ``settings`` are the rest of ``POST /v1/batches``."""
        body = _batch(categories, templates, variables, settings)
        return (yield from call(BatchJob, "POST", "/v1/batches", json=body))

    @Method
    def batches(self) -> Flow[list[Batch]]:
        """The batches of the namespace, the oldest first."""
        return (yield from collect(Page[Batch], "/v1/batches"))

    @Method
    def batch(self, batch_id: str) -> Flow[BatchJob]:
        """Where a batch stands, and what of it failed."""
        return (yield from call(BatchJob, "GET", f"/v1/batches/{batch_id}"))

    @Method
    def wait_for_batch(
        self, batch_id: str, *, report: Callable[[BatchJob], None] = lambda _: None, poll_s: float = 1.0
    ) -> Flow[BatchJob]:
        """The batch once it has succeeded, perhaps with ``failures``. JobFailed: nothing was made, or it was canceled."""
        return (yield from wait(BatchJob, f"/v1/batches/{batch_id}", report, poll_s))

    @Method
    def cancel_batch(self, batch_id: str) -> Flow[BatchJob]:
        """End a batch that waits or runs."""
        return (yield from call(BatchJob, "POST", f"/v1/batches/{batch_id}/cancel"))

    @Method
    def batch_manifest(self, batch_id: str) -> Flow[list[ManifestLine]]:
        """A line for every picture that is made and every failure."""
        text = (yield from exchange("GET", f"/v1/batches/{batch_id}/manifest.jsonl")).text
        return [_line.validate_json(line) for line in text.split("\n") if line]

    @Method
    def batch_pictures(self, batch_id: str) -> Flow[bytes]:
        """The pictures that are made, as a zip archive."""
        return (yield from exchange("GET", f"/v1/batches/{batch_id}/pictures.zip")).content

    @Method
    def batch_sheet(self, batch_id: str) -> Flow[bytes]:
        """The contact sheet as PNG."""
        return (yield from exchange("GET", f"/v1/batches/{batch_id}/sheet.png")).content

    @Method
    def image(self, image_id: str) -> Flow[bytes]:
        """A picture as PNG, with its recipe inside."""
        return (yield from exchange("GET", f"/v1/images/{image_id}")).content

    @Method
    def audit(self) -> Flow[list[AuditEntry]]:
        """Who did what in the namespace, the oldest first; needs an admin's key."""
        return (yield from collect(Page[AuditEntry], "/v1/audit"))

    @Method
    def usage(self, since: datetime | None = None, until: datetime | None = None) -> Flow[UsageReport]:
        """Pictures, training steps, seconds and cost per category, of a time; its ends need a time zone."""
        ends = {"since": since, "until": until}
        params = {name: end.isoformat() for name, end in ends.items() if end is not None}
        return (yield from call(UsageReport, "GET", "/v1/usage", params=params))

    @Method
    def create_webhook(self, url: str) -> Flow[Webhook]:
        """Tell ``url`` of every job that ends. Keep the secret: ``packshot.domain.webhooks.check_signature`` needs it."""
        return (yield from call(Webhook, "POST", "/v1/webhooks", json={"url": url}))

    @Method
    def webhooks(self) -> Flow[list[WebhookInfo]]:
        """The webhooks of the namespace, the disabled too."""
        return (yield from collect(Page[WebhookInfo], "/v1/webhooks"))

    @Method
    def disable_webhook(self, webhook_id: str) -> Flow[WebhookInfo]:
        """Tell it nothing any more."""
        return (yield from call(WebhookInfo, "POST", f"/v1/webhooks/{webhook_id}/disable"))

    @Method
    def deliveries(self, webhook_id: str) -> Flow[list[Delivery]]:
        """What a webhook was told, or could not be told and why, the oldest first."""
        return (yield from collect(Page[Delivery], f"/v1/webhooks/{webhook_id}/deliveries"))

    @Method
    def bases(self) -> Flow[list[RegisteredBase]]:
        """The base models that the operator has registered."""
        return (yield from collect(Page[RegisteredBase], "/v1/bases"))


def _request(
    prompt: str | None,
    model: str,
    template: str | None,
    variables: Mapping[str, Value],
    boxes: Sequence[Edges],
    settings: Mapping[str, Setting],
) -> dict[str, object]:
    """The body of a request, with the bytes of a layout as base64."""
    layout = settings.get("layout")
    if isinstance(layout, Path):
        layout = _read_files([layout])[0][1][1]
    if isinstance(layout, bytes):
        settings = {**settings, "layout": b64encode(layout).decode()}
    return {
        "prompt": prompt,
        "model": model,
        "template": template,
        "variables": dict(variables),
        "boxes": [list(box) for box in boxes],
        **settings,
    }


def _batch(
    categories: Sequence[str],
    templates: Sequence[str],
    variables: Mapping[str, Value],
    settings: Mapping[str, str | int | float],
) -> dict[str, object]:
    return {
        "categories": list(categories),
        "templates": list(templates),
        "variables": dict(variables),
        **settings,
    }


def _read_files(paths: Sequence[Path | str]) -> list[tuple[str, tuple[str, bytes]]]:
    found: list[Path] = []
    for path in map(Path, paths):
        found += sorted(each for each in path.iterdir() if each.is_file()) if path.is_dir() else [path]
    try:
        return [("files", (each.name, each.read_bytes())) for each in found if not each.name.startswith(".")]
    except OSError as error:
        raise InvalidInput(f"cannot read {error.filename} ({error.strerror})") from error
