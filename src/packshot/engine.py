"""Pictures from Python, in this process: a workspace's engine, asked by prompt. Knows no tensor.

Every picture is stored and recorded with its lineage, as those of ``packshot generate`` are.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, Self, TypeVar

from packshot.bootstrap import Workspace, code_revision, open_workspace
from packshot.diffusion.tickets import Event, PictureRequest, Preview, Ticket
from packshot.domain.composition import Box
from packshot.domain.errors import Interrupted
from packshot.domain.generation import GeneratedImage, Generation, SamplingSettings
from packshot.domain.models import EMBEDDED_BASE
from packshot.ports import Progress
from packshot.services.artifacts import load_fine_tune
from packshot.services.generation import keep_images, keep_layout, new_generation, record_at_once
from packshot.services.models import fine_tune_at, register_base
from packshot.services.prompts import ResolvedPrompt, load_subjects, resolve_prompt
from packshot.settings import read_settings

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture that was made: its record, and the PNG with its recipe."""

    image: GeneratedImage
    png: bytes


class _Arrivals(Generic[T]):
    """What has come so far, for readers that wait for more in a thread or in an event loop."""

    def __init__(self) -> None:
        self._come: list[T] = []
        self._closed = False
        self._changed = threading.Condition()
        self._loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def add(self, *values: T, closed: bool = False) -> None:
        with self._changed:
            self._come += values
            self._closed |= closed
            self._changed.notify_all()
            for loop, event in self._loops:
                with suppress(RuntimeError):  # that loop has ended, and nobody waits in it
                    loop.call_soon_threadsafe(event.set)

    def __iter__(self) -> Iterator[T]:
        read = 0
        while True:
            with self._changed:
                while len(self._come) == read:
                    if self._closed:
                        return
                    self._changed.wait()
            yield self._come[read]
            read += 1

    async def __aiter__(self) -> AsyncIterator[T]:
        place = asyncio.get_running_loop(), asyncio.Event()
        with self._changed:
            self._loops.append(place)
        try:
            read = 0
            while not (self._closed and read == len(self._come)):
                place[1].clear()
                if read < len(self._come):
                    yield self._come[read]
                    read += 1
                elif not self._closed:
                    await place[1].wait()
        finally:
            with self._changed:
                self._loops.remove(place)


class Pictures:
    """A request under way: wait with ``result()`` or ``await`` for its pictures."""

    def __init__(self) -> None:
        self.progress = 0.0
        self._ticket: Ticket | None = None
        self._kept: Future[list[Picture]] = Future()
        self._kept.set_running_or_notify_cancel()  # what is canceled is the ticket, which then ends this one too
        self._previews: _Arrivals[Preview] = _Arrivals()

    def result(self, timeout_s: float | None = None) -> list[Picture]:
        """The pictures, in order of their seeds.

        Raises:
            Interrupted: the request was canceled.
            TimeoutError: they are not there within ``timeout_s``.
            PackshotError: why they could not be made.
        """
        return self._kept.result(timeout_s)

    def __await__(self):  # type: ignore[no-untyped-def]
        """As ``result``; where the waiting task is canceled, the request is."""
        return self._awaited().__await__()

    async def _awaited(self) -> list[Picture]:
        try:
            return await asyncio.wrap_future(self._kept)
        except asyncio.CancelledError:
            self.cancel()
            raise

    def previews(self) -> "_Arrivals[Preview]":
        """The previews from the first on, in ``for`` or ``async for``, until the request ends."""
        return self._previews

    def cancel(self) -> None:
        """Let the pictures leave the batch at the next step; nothing happens where they are done."""
        assert self._ticket
        self._ticket.cancel()

    def _hear(self, event: Event) -> None:
        if isinstance(event, Progress):
            self.progress = event.step / event.num_steps
        elif isinstance(event, Preview):
            self._previews.add(event)
        else:
            self._previews.add(closed=True)


class Engine:
    """Makes pictures in this process, any number of requests at once in one batch.

    ``workspace`` is its folder, by default the one that the environment names; settings are the environment's.
    """

    def __init__(self, workspace: Path | str | Workspace | None = None) -> None:
        if isinstance(workspace, Workspace):
            self._space, self._own = workspace, False
        else:
            settings = read_settings()
            home = settings.home if workspace is None else Path(workspace)
            self._space, self._own = open_workspace(settings.model_copy(update={"home": home})), True
        self._keeper = ThreadPoolExecutor(1, "packshot-keep")
        self._underway: set[Pictures] = set()

    def submit(
        self,
        prompt: str,
        sampling: SamplingSettings | None = None,
        *,
        version: str | None = None,
        base: str = EMBEDDED_BASE,
        namespace: str | None = None,
        layout: bytes | None = None,
        boxes: Sequence[Box] = (),
        preview_every: int = 0,
    ) -> Pictures:
        """Ask for the pictures of ``prompt``, in which an identifier picks the fine-tune that serves it.

        Several identifiers are composed, each in one of ``boxes``, or in equal columns from left to right.

        ``version`` (PATH@VERSION) goes before the serving one; ``base`` answers prompts without an identifier.
        ``layout`` is a picture whose composition is kept, see ``SamplingSettings.strength``. ``preview_every`` is the
        number of steps between previews; 0 = none.

        Raises:
            ImageRefused: the layout cannot be read safely.
            InvalidPrompt, InvalidComposition, NothingServing: see ``services.prompts.resolve_prompt``.
            QueueFull: as many pictures wait as the engine holds.
            PackshotError: a record, a file or a base cannot be read.
        """
        space, sampling = self._space, sampling or SamplingSettings()
        namespace = namespace or space.settings.namespace
        if layout is not None:
            sampling = replace(sampling, layout=keep_layout(space.blobs, layout, "layout"))
        resolved = resolve_prompt(
            space.records,
            prompt,
            bare_base=lambda: register_base(space.records, space.bases.describe(base)),
            fine_tune=fine_tune_at(space.records, version, namespace) if version else None,
            boxes=boxes,
            namespace=namespace,
        )
        generation = new_generation(prompt, resolved, sampling, code_revision(), namespace, job_id=None, template=None)
        request = PictureRequest(
            base=resolved.base,
            fine_tune=load_fine_tune(space.records, space.blobs, resolved.fine_tune) if resolved.fine_tune else None,
            prompts=(resolved.prompt,),
            sampling=sampling,
            subjects=load_subjects(space.records, space.blobs, resolved),
            layout=space.blobs.get(sampling.layout) if sampling.layout else None,
            caller=namespace,
            preview_every=preview_every,
        )
        pictures, begun = Pictures(), time.monotonic()
        ticket = pictures._ticket = space.engine.submit(request, pictures._hear)
        self._underway.add(pictures)
        ticket.future.add_done_callback(
            lambda _: self._keeper.submit(self._keep, pictures, ticket, generation, resolved, begun)
        )
        return pictures

    def _keep(
        self, pictures: Pictures, ticket: Ticket, generation: Generation, resolved: ResolvedPrompt, begun: float
    ) -> None:
        """Store and record what was made, and let those who wait have it."""
        try:
            pngs = ticket.result()
            images = keep_images(
                self._space.blobs, generation, resolved, pngs, self._space.inscribe, numbers=range(len(pngs))
            )
            record_at_once(self._space.records, generation, resolved, images, time.monotonic() - begun)
            kept = [Picture(image=image, png=self._space.blobs.get(image.sha256)) for image in images]
        except BaseException as error:  # noqa: BLE001 - it is raised where somebody waits
            pictures._kept.set_exception(error)
        else:
            pictures._kept.set_result(kept)
        finally:
            self._underway.discard(pictures)

    def close(self) -> None:
        """Cancel what is under way, and let go of the workspace."""
        underway = list(self._underway)
        for pictures in underway:
            pictures.cancel()
        for pictures in underway:
            with suppress(Interrupted):
                pictures._kept.exception()
        self._keeper.shutdown()
        if self._own:
            self._space.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await asyncio.to_thread(self.close)
