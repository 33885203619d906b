"""One picture on its way: its own latents, scheduler, time step, guidance and adapter. One step of a batch of them.

Knows no queue. A batch is made of the rows of its pictures: two for a guided one (negative prompt, prompt), one for
any other, and as many for each part of a composed one; no row depends on another.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from packshot.diffusion.adapters import AdapterBank
from packshot.diffusion.pictures import png_from_pixels
from packshot.diffusion.protocols import Conditioning, Family, Sampler
from packshot.diffusion.regions import APART, Regions
from packshot.diffusion.tickets import Preview, Ticket
from packshot.domain.errors import SamplingFailed

PREVIEW_CELLS = 32  # the longer edge of a preview's latents at most


@dataclass(frozen=True, kw_only=True)
class Place:
    """The base or replica that a picture is sampled with, and the slot of each part's adapter.

    ``replica`` is that one's key.
    """

    base: Family
    slots: tuple[int, ...]
    replica: str = ""


@dataclass(kw_only=True, eq=False)
class Sample:
    """Picture ``number`` of ``ticket``.

    ``latents`` are (1, channels, height, width), ``noise`` is what they began with. ``conditioning`` has a row or two for
    each part of the picture; a picture without ``regions`` has one part.
    """

    ticket: Ticket
    number: int
    place: Place
    sampler: Sampler
    latents: Tensor
    conditioning: Conditioning
    guidance_scale: float
    noise: Tensor
    regions: Regions | None = None
    step: int = 0

    @property
    def num_rows(self) -> int:
        """For each part 2 with classifier-free guidance (Ho and Salimans 2022), else 1."""
        return len(next(iter(self.conditioning.values())))

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        return self.step == len(self.sampler.timesteps)

    @property
    def timestep(self) -> Tensor:
        """Where it stands."""
        return self.sampler.timesteps[self.step]

    def model_input(self) -> Tensor:
        """(1, channels, height, width): the latents as the denoiser wants them."""
        return self.sampler.scale_model_input(self.latents, self.timestep)

    def rows(self) -> Tensor:
        """(num_rows, channels, height, width): what the denoiser reads in each row."""
        seen = self.model_input()
        if self.regions:
            seen = self.regions.seen(seen, self._backdrop(self.regions.backdrop) if self._apart else None)
        return seen.repeat_interleave(self.num_rows // len(seen), dim=0)

    def advance(self, prediction: Tensor) -> None:
        """Take one step with the denoiser's ``prediction`` for each row; shows a preview where one is due."""
        parts = prediction.unflatten(0, (len(self.place.slots), -1))
        prediction = parts[:, 0]
        if parts.shape[1] == 2:
            prediction = prediction + self.guidance_scale * (parts[:, 1] - prediction)
        if self.regions:
            prediction = self.regions.blend(prediction)
        every = self.ticket.request.preview_every
        if every and (self.step + 1) % every == 0 and self.step + 1 < len(self.sampler.timesteps):
            self._show(prediction)
        self.latents = self.sampler.step(prediction, self.timestep, self.latents, return_dict=False)[0]
        self.step += 1

    def png(self) -> bytes:
        """The picture.

        Raises:
            SamplingFailed: it has numbers that are not finite.
        """
        if not torch.isfinite(self.latents).all():
            raise SamplingFailed(
                f"picture {self.number} has numbers that are not finite: its fine-tune is damaged or diverged in "
                "training, or the guidance scale is too large; use another version or a smaller scale"
            )
        return png_from_pixels(self.place.base.decode_latents(self.latents[0]))

    @property
    def _apart(self) -> bool:
        """Whether the parts do not see each other yet."""
        return self.step < APART * len(self.sampler.timesteps)

    def _backdrop(self, latents: Tensor) -> Tensor:
        """``latents`` with the picture's own noise, as much as it has at this step."""
        return self.place.base.add_noise(latents, self.noise, self.timestep.reshape(1).to(self.noise.device))

    def _show(self, prediction: Tensor) -> None:
        base = self.place.base
        clean = base.estimate(self.model_input(), prediction, self.timestep.reshape(1))
        factor = -(-max(clean.shape[-2:]) // PREVIEW_CELLS)
        small = torch.nn.functional.avg_pool2d(clean, factor) if factor > 1 else clean
        png = png_from_pixels(base.decode_latents(small[0]).nan_to_num())
        self.ticket.show(Preview(number=self.number, step=self.step + 1, png=png))


def predict(samples: Sequence[Sample], bank: AdapterBank) -> list[Tensor]:
    """What the denoiser predicts for each sample, (rows, channels, height, width), computed as one batch.

    All are of one base and of one shape; neighbours of one slot are cheapest.
    """
    base = samples[0].place.base
    inputs = torch.cat([sample.rows() for sample in samples])
    timesteps = torch.cat([sample.timestep.float().expand(sample.num_rows) for sample in samples])
    names = samples[0].conditioning
    conditioning = {name: torch.cat([sample.conditioning[name] for sample in samples]) for name in names}
    slots = [
        slot
        for sample in samples
        for slot in sample.place.slots
        for _ in range(sample.num_rows // len(sample.place.slots))
    ]
    with bank.rows(slots):
        prediction = base.predict(inputs, timesteps.to(base.device), conditioning)
    return list(prediction.split([sample.num_rows for sample in samples]))
