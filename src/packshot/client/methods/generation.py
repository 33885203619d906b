"""Pictures, one request at a time."""

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from packshot.client.flows import Flow, Method, call, collect, exchange, wait
from packshot.client.methods.arguments import NO_VARIABLES, read_files
from packshot.domain.generation import ANY_CATEGORY
from packshot.domain.variables import Value
from packshot.services.estimates import Estimate
from packshot.web.schemas import GenerationJob, Page

Edges = tuple[float, float, float, float]  # left, top, right and bottom of a box, as shares of the picture
Setting = str | int | float | bytes | Path


class GenerationMethods:
    """Pictures, one request at a time."""

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
    def image(self, image_id: str) -> Flow[bytes]:
        """A picture as PNG, with its recipe inside."""
        return (yield from exchange("GET", f"/v1/images/{image_id}")).content


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
        layout = read_files([layout])[0][1][1]
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
