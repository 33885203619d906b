"""What benchmark 4 serves, and who serves it: requests, a clock, the engine, and plain diffusers. Measures nothing itself."""

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from PIL import Image
from torch import Tensor

from benchmarks.bases import Bench
from benchmarks.serving import RANK, Catalog, mixed_by_peft, plain_pipeline
from packshot.diffusion.protocols import Family
from packshot.diffusion.resident import EngineLimits, Prepared, Resident
from packshot.diffusion.session import Session
from packshot.diffusion.tickets import Event, PictureRequest, Ticket
from packshot.diffusion.turns import Turns
from packshot.domain.generation import SamplingSettings

STEPS = (4, 8, 12, 20)
LIMITS = EngineLimits(adapter_ranks=64 * RANK)
GUIDANCE, PROMPT, POWER = 3.0, "an apple on a wooden table", 1.1


@dataclass(frozen=True, kw_only=True)
class Request:
    """One picture of a category, wanted at ``arrival`` seconds where one arrives a second."""

    category: int
    steps: int
    seed: int
    arrival: float


def requests(count: int, size: int, variation: float) -> list[Request]:
    """The same ones at every call, which differ between sizes in their categories alone.

    ``variation`` is the coefficient of variation of the times between them.
    """
    weights = np.arange(1, size + 1) ** -POWER
    categories = np.random.default_rng(size).choice(size, count, p=weights / weights.sum())
    steps = np.random.default_rng(5).choice(STEPS, count)
    gaps = np.random.default_rng(7).gamma(variation**-2, variation**2, count)
    arrivals = np.cumsum(gaps) * count / gaps.sum()
    return [
        Request(category=int(category), steps=int(step), seed=number, arrival=float(arrival))
        for number, (category, step, arrival) in enumerate(zip(categories, steps, arrivals, strict=True))
    ]


@dataclass(kw_only=True)
class Clock:
    """Processor time of the process, with jumps over idle times."""

    ahead: float = field(default_factory=lambda: -time.process_time())

    @property
    def now(self) -> float:
        """Seconds since it was made."""
        return time.process_time() + self.ahead

    def wait_until(self, at: float) -> None:
        """Jump, where that is in the future."""
        self.ahead += max(0.0, at - self.now)


class Ours:
    """The engine's session over its own limits, which stays warm between runs."""

    def __init__(self, bench: Bench, base: Family, catalog: Catalog) -> None:
        self._bench, self._base, self._catalog = bench, base, catalog
        self._resident = Resident(base, LIMITS)
        self._tuned: dict[int, Any] = {}

    def run(self, wanted: Sequence[Request], rate: float) -> tuple[list[float], list[bytes]]:
        """Latency and PNG of each."""
        for each in wanted:
            if each.category not in self._tuned:
                self._tuned[each.category] = self._catalog.tuned(each.category)
        clock, turns, changed = Clock(), Turns[Prepared](), threading.Condition()
        tickets: list[Ticket] = []
        ends = [0.0] * len(wanted)

        def arrive() -> None:
            while len(tickets) < len(wanted) and wanted[len(tickets)].arrival / rate <= clock.now:
                number = len(tickets)

                def listen(event: Event, number: int = number) -> None:
                    if event is None:
                        ends[number] = clock.now
                    else:
                        arrive()

                tickets.append(Ticket(self._request(wanted[number]), listen))
                with changed:
                    turns.add(tickets[-1])
                    changed.notify_all()

        while len(tickets) < len(wanted):
            clock.wait_until(wanted[len(tickets)].arrival / rate)
            arrive()
            Session(
                base=self._base,
                base_digest=self._bench.base.digest,
                resident=self._resident,
                turns=turns,
                changed=changed,
                max_batch=LIMITS.max_batch,
            ).run()
        pngs = [ticket.result()[0] for ticket in tickets]
        return [end - each.arrival / rate for end, each in zip(ends, wanted, strict=True)], pngs

    def _request(self, wanted: Request) -> PictureRequest:
        sampling = SamplingSettings(
            seed=wanted.seed, num_images=1, inference_steps=wanted.steps, guidance_scale=GUIDANCE
        )
        return PictureRequest(
            base=self._bench.base, fine_tune=self._tuned[wanted.category], prompts=(PROMPT,), sampling=sampling
        )


class Plain:
    """A pipeline of plain diffusers, and ways to serve with it."""

    def __init__(self, bench: Bench, base: Family, catalog: Catalog) -> None:
        self._pipeline = plain_pipeline(bench.folder)
        self._pipeline.scheduler = DPMSolverMultistepScheduler.from_config(self._pipeline.scheduler.config)
        self._shape = base.latent_shape(base.resolution, base.resolution)
        self._catalog = catalog
        self._kept: OrderedDict[int, str] = OrderedDict()
        self._files: dict[int, dict[str, Tensor]] = {}

    def prepare(self, wanted: Sequence[Request]) -> None:
        """Read the files, which no peer has to wait for."""
        for each in wanted:
            if each.category not in self._files:
                self._files[each.category] = self._catalog.category(each.category).published

    def load(self, batch: Sequence[Request]) -> list[Image.Image]:
        """Load, make, unload."""
        (wanted,) = batch
        self._pipeline.load_lora_weights(self._files[wanted.category])
        pictures = self._made(batch)
        self._pipeline.unload_lora_weights()
        return pictures

    def set(self, batch: Sequence[Request]) -> list[Image.Image]:
        """Switch to an adapter that is kept."""
        (wanted,) = batch
        self._pipeline.set_adapters(self._named(wanted.category))
        return self._made(batch)

    def peft(self, batch: Sequence[Request]) -> list[Image.Image]:
        """A mixed batch; rows of the negative prompt come first."""
        names = [self._named(each.category) for each in batch]
        with mixed_by_peft(self._pipeline.unet, names * 2):
            return self._made(batch)

    def _named(self, category: int) -> str:
        if category not in self._kept:
            if len(self._kept) * RANK >= LIMITS.adapter_ranks:
                self._pipeline.delete_adapters(self._kept.popitem(last=False)[1])
            self._kept[category] = f"category_{category}"
            weights = {name: tensor.clone() for name, tensor in self._files[category].items()}
            self._pipeline.load_lora_weights(weights, adapter_name=self._kept[category])
        self._kept.move_to_end(category)
        return self._kept[category]

    def _made(self, batch: Sequence[Request]) -> list[Image.Image]:
        noise = [torch.randn(self._shape, generator=torch.Generator().manual_seed(each.seed)) for each in batch]
        return self._pipeline(
            [PROMPT] * len(batch),
            latents=torch.stack(noise),
            num_inference_steps=batch[0].steps,
            guidance_scale=GUIDANCE,
        ).images
