"""One picture on its way: its own latents, scheduler, time step, guidance and adapter. One step of a batch of them.

Knows no queue. A batch is made of the rows of its pictures: two for a guided one (negative prompt, prompt), one for
any other; no row depends on another.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from packshot.diffusion.adapters import AdapterBank
from packshot.diffusion.pictures import png_from_pixels
from packshot.diffusion.protocols import Conditioning, Family, Sampler
from packshot.diffusion.tickets import Preview, Ticket
from packshot.domain.errors import SamplingFailed

PREVIEW_CELLS = 32  # the longer edge of a preview's latents at most


@dataclass(frozen=True, kw_only=True)
class Place:
    """The base or replica that a picture is sampled with, and its adapter's slot; ``replica`` is that one's key."""

    base: Family
    slot: int
    replica: str = ""


@dataclass(kw_only=True, eq=False)
class Sample:
    """Picture ``number`` of ``ticket``. ``latents`` are (1, channels, height, width), ``conditioning`` has a row or two."""

    ticket: Ticket
    number: int
    place: Place
    sampler: Sampler
    latents: Tensor
    conditioning: Conditioning
    guidance_scale: float
    step: int = 0

    @property
    def num_rows(self) -> int:
        """2 with classifier-free guidance (Ho and Salimans 2022), else 1."""
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

    def advance(self, prediction: Tensor) -> None:
        """Take one step with the denoiser's ``prediction`` for each row; shows a preview where one is due."""
        if self.num_rows == 2:
            negative, positive = prediction.chunk(2)
            prediction = negative + self.guidance_scale * (positive - negative)
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
    inputs = torch.cat([sample.model_input().expand(sample.num_rows, -1, -1, -1) for sample in samples])
    timesteps = torch.cat([sample.timestep.float().expand(sample.num_rows) for sample in samples])
    names = samples[0].conditioning
    conditioning = {name: torch.cat([sample.conditioning[name] for sample in samples]) for name in names}
    slots = [sample.place.slot for sample in samples for _ in range(sample.num_rows)]
    with bank.rows(slots):
        prediction = base.predict(inputs, timesteps.to(base.device), conditioning)
    return list(prediction.split([sample.num_rows for sample in samples]))
