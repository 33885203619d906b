"""Templates, and batches of pictures."""

from collections.abc import Callable, Mapping, Sequence

from pydantic import TypeAdapter

from packshot.client.flows import Flow, Method, call, collect, exchange, wait
from packshot.client.methods.arguments import NO_VARIABLES
from packshot.domain.batches import Batch
from packshot.domain.templates import Template
from packshot.domain.variables import Value
from packshot.services.estimates import Estimate
from packshot.services.manifests import ManifestLine
from packshot.web.schemas import BatchJob, Page

_line = TypeAdapter(ManifestLine)


class BatchMethods:
    """Templates, and batches of pictures."""

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
