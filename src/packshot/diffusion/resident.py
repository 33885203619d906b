"""A loaded base with all that stays beside it: adapters, replicas, parsed fine-tunes, encoded prompts. Knows no queue.

Every part is bounded by ``EngineLimits``. ``prepare`` may run in another thread than the rest: it reads prompts and
files, the others touch the denoiser.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from packshot.diffusion.adapters import AdapterBank, rank_of
from packshot.diffusion.fine_tunes import ParsedFineTune, check_header, parse
from packshot.diffusion.methods import read
from packshot.diffusion.pictures import pixels_from_png
from packshot.diffusion.protocols import Conditioning, Family, LatentDistribution, Sampler
from packshot.diffusion.regions import Regions
from packshot.diffusion.replicas import Replicas
from packshot.diffusion.samples import Place, Sample
from packshot.diffusion.tallies import EngineTally
from packshot.diffusion.tickets import PictureRequest, Ticket
from packshot.diffusion.tiers import Tier
from packshot.domain.errors import InvalidComposition, InvalidInput
from packshot.ports import LoadedFineTune

MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class EngineLimits:
    """What the engine may take.

    Attributes:
        max_batch: Pictures in one pass through the denoiser; a guided picture is two rows of it, and a composed one
            counts as one for each of its parts.
        max_queue: Pictures that wait, beside those of the last request that was let in.
        adapter_ranks: Ranks of all adapters together that stand beside the denoiser.
        adapter_cache_mib: MiB of parsed fine-tunes in main memory.
        prompt_cache_mib: MiB of encoded prompts.
        max_replicas: Fine-tunes with a denoiser of their own.
    """

    max_batch: int = 8
    max_queue: int = 4096
    adapter_ranks: int = 256
    adapter_cache_mib: int = 1024
    prompt_cache_mib: int = 128
    max_replicas: int = 1


@dataclass(frozen=True, kw_only=True)
class EngineMemory:
    """What stands beside a base, in bytes, and the most that it can be. Replicas count as whole denoisers at most."""

    adapters: int
    max_adapters: int
    parsed: int
    max_parsed: int
    prompts: int
    max_prompts: int
    num_replicas: int
    max_replicas: int
    denoiser: int


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A request as it can be sampled. ``conditioning`` is that of each of its prompts, ``layout`` what they begin from.

    A picture has one fine-tune, or one for each of its ``regions``.
    """

    ticket: Ticket
    fine_tunes: tuple[ParsedFineTune | None, ...]
    conditioning: tuple[Conditioning, ...]
    regions: Regions | None
    shape: tuple[int, int, int]
    new_sampler: Callable[[], Sampler]
    layout: LatentDistribution | None

    def sample(self, number: int, place: Place) -> Sample:
        """Picture ``number``: its noise comes from its own seed, on the CPU."""
        sampling = self.ticket.request.sampling
        prompt, offset = divmod(number, sampling.num_images)
        sampler = self.new_sampler()
        latents, noise, step = self._start(sampler, torch.Generator().manual_seed(sampling.seed + offset), place.base)
        return Sample(
            ticket=self.ticket,
            number=number,
            place=place,
            sampler=sampler,
            latents=latents,
            conditioning=self.conditioning[prompt],
            noise=noise,
            regions=self.regions,
            guidance_scale=sampling.guidance_scale,
            step=step,
        )

    def _start(self, sampler: Sampler, generator: torch.Generator, base: Family) -> tuple[Tensor, Tensor, int]:
        """Noise, or as much of it as the strength says over the layout; all of it; and the first step."""
        if self.layout is None:
            noise = torch.randn(self.shape, generator=generator).to(base.device)[None]
            return noise * sampler.init_noise_sigma, noise, 0
        draw, noise = (torch.randn(self.shape, generator=generator).to(base.device)[None] for _ in range(2))
        latents = self.layout.mean.to(base.device) + self.layout.std.to(base.device) * draw
        begun, step = base.begin(sampler, latents, noise, self.ticket.request.sampling.strength)
        return begun, noise, step


class Resident:
    """What is in memory for one base. Does not hold the base itself, so that it goes where the base goes."""

    def __init__(self, base: Family, limits: EngineLimits, tally: EngineTally | None = None) -> None:
        self.bank = AdapterBank(base.denoiser, num_ranks=limits.adapter_ranks, tally=tally)
        self._denoiser_bytes = sum(parameter.nbytes for parameter in base.denoiser.parameters())
        self.replicas = Replicas(max_replicas=limits.max_replicas)
        self.fine_tunes: Tier[str, ParsedFineTune] = Tier(limits.adapter_cache_mib * MIB, lambda each: each.num_bytes)
        self.prompts: Tier[tuple[str, str], Conditioning] = Tier(limits.prompt_cache_mib * MIB, _bytes_of)

    @property
    def memory(self) -> EngineMemory:
        """What is taken now, and what can be."""
        return EngineMemory(
            adapters=self.bank.num_bytes,
            max_adapters=self.bank.max_bytes,
            parsed=self.fine_tunes.num_bytes,
            max_parsed=self.fine_tunes.max_bytes,
            prompts=self.prompts.num_bytes,
            max_prompts=self.prompts.max_bytes,
            num_replicas=len(self.replicas),
            max_replicas=self.replicas.max_replicas,
            denoiser=self._denoiser_bytes,
        )

    @torch.inference_mode()
    def prepare(self, ticket: Ticket, base: Family) -> Prepared:
        """Read the fine-tune and encode the prompts.

        Raises:
            IncompatibleFineTune: the fine-tune was trained on another base.
            InvalidComposition: a subject's fine-tune cannot stand beside others.
            CorruptArtifact: its weights are damaged or another's.
            InvalidInput: a size, a scheduler, a number of steps or a negative prompt that the base cannot take.
        """
        request = ticket.request
        sampling = request.sampling
        _check_sampling(base, request)
        width, height = sampling.width or base.resolution, sampling.height or base.resolution
        shape = base.latent_shape(width, height)
        regions = Regions.of([subject.box for subject in request.subjects], shape, base) if request.subjects else None
        parts = self._parts(request, regions, base)

        def new_sampler() -> Sampler:
            return base.new_sampler(sampling.inference_steps, shape, sampling.scheduler)

        new_sampler()  # so that what the base cannot take is refused now
        return Prepared(
            ticket=ticket,
            fine_tunes=tuple(fine_tune for fine_tune, _ in parts),
            conditioning=(
                (_side_by_side([self._told(prompt, request, fine_tune, base) for fine_tune, prompt in parts]),)
                if regions
                else tuple(self._told(prompt, request, parts[0][0], base) for prompt in request.prompts)
            ),
            regions=regions,
            shape=shape,
            new_sampler=new_sampler,
            layout=base.encode_pixels(pixels_from_png(request.layout, (width, height))) if request.layout else None,
        )

    def place(self, fine_tunes: Sequence[ParsedFineTune | None], base: Family) -> Place | None:
        """Where a picture's parts are sampled, theirs until ``leave``; None while others take all the room."""
        first = fine_tunes[0]
        if first and first.adapters is None:
            replica = self.replicas.acquire(first, base)
            return Place(base=replica, slots=(0,), replica=first.key) if replica else None
        slots: list[int] = []
        for fine_tune in fine_tunes:
            slot = self.bank.acquire(fine_tune.key, fine_tune.adapters or {}) if fine_tune else 0
            if slot is None:
                for taken in slots:
                    self.bank.release(taken)
                return None
            slots.append(slot)
        return Place(base=base, slots=tuple(slots))

    def leave(self, place: Place) -> None:
        """Undo one ``place``."""
        if place.replica:
            self.replicas.release(place.replica)
        else:
            for slot in place.slots:
                self.bank.release(slot)

    def _parts(
        self, request: PictureRequest, regions: Regions | None, base: Family
    ) -> list[tuple[ParsedFineTune | None, str]]:
        """The fine-tunes of a picture, each with its prompt: one, or those of the subjects after what they leave over."""
        if regions is None:
            fine_tune = self._parsed(request.fine_tune, request, base) if request.fine_tune else None
            return [(fine_tune, request.prompts[0])]
        parts = [(self._parsed(subject.fine_tune, request, base), subject.prompt) for subject in request.subjects]
        for (parsed, _), subject in zip(parts, request.subjects, strict=True):
            if parsed.adapters is None:
                raise InvalidComposition(
                    f"{subject.fine_tune.record.trained_phrase!r} needs a denoiser of its own ({parsed.header.method}) and "
                    "cannot stand beside others; make an adapter of it with packshot compress, or train one"
                )
        num_ranks = sum(rank_of(adapters) for adapters in {each.key: each.adapters or {} for each, _ in parts}.values())
        if num_ranks > self.bank.num_ranks:
            raise InvalidComposition(
                f"the subjects' adapters have {num_ranks} ranks together, and there is room for {self.bank.num_ranks}; "
                "raise PACKSHOT_ADAPTER_RANKS"
            )
        return [*([(None, request.prompts[0])] if regions.leave_over else []), *parts]

    def _parsed(self, loaded: LoadedFineTune, request: PictureRequest, base: Family) -> ParsedFineTune:
        parsed = self.fine_tunes.get(loaded.sha256, lambda: parse(loaded, base, self.bank))
        check_header(parsed.header, request.base, loaded.record)
        return parsed

    def _told(
        self, prompt: str, request: PictureRequest, fine_tune: ParsedFineTune | None, base: Family
    ) -> Conditioning:
        """What the denoiser is told for one picture: a row for the negative prompt where one takes part, then one."""
        sampling = request.sampling
        guided = sampling.guidance_scale > 1 and not base.embeds_guidance
        texts = [sampling.negative_prompt, prompt] if guided else [prompt]
        told = _side_by_side([self._encoded(text, fine_tune, base) for text in texts])
        width, height = sampling.width or base.resolution, sampling.height or base.resolution
        frames = torch.tensor([[height, width, 0, 0, height, width]] * len(texts), dtype=torch.float32)
        return told | base.picture_conditioning(frames, sampling.guidance_scale)

    def _encoded(self, text: str, fine_tune: ParsedFineTune | None, base: Family) -> Conditioning:
        """One row; encoded on its own, so that it depends on nothing else."""
        if fine_tune is None or not fine_tune.changes(text):
            return self.prompts.get(("", text), lambda: base.encode_prompts([text]))

        def encode() -> Conditioning:
            with read(base, fine_tune.header, fine_tune.text):
                return base.encode_prompts([text])

        return self.prompts.get((fine_tune.key, text), encode)


def _side_by_side(parts: Sequence[Conditioning]) -> Conditioning:
    """The rows of all parts of a picture, one after the other."""
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _bytes_of(conditioning: Conditioning) -> int:
    return sum(tensor.nbytes for tensor in conditioning.values())


def _check_sampling(base: Family, request: PictureRequest) -> None:
    negative = request.sampling.negative_prompt
    if base.embeds_guidance and negative:
        raise InvalidInput(
            f"the base {request.base.source} reads the guidance scale itself and takes no negative prompt, and "
            f"{negative!r} was given; leave it out"
        )
