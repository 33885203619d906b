"""Fine-tunes of every method without a training, and mixed batches of them beside plain runs, as floats."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from threading import Condition
from typing import Any

import pytest
import torch
from fixtures_families import FLOWS, quick
from fixtures_pipelines import RESOLUTION, Studio, held
from torch import Tensor

from packshot.diffusion.methods import METHODS, applied
from packshot.diffusion.protocols import TOKEN_PREFIX, Family
from packshot.diffusion.resident import EngineLimits, Prepared, Resident
from packshot.diffusion.session import Session
from packshot.diffusion.tickets import Event, PictureRequest, Ticket
from packshot.diffusion.turns import Turns
from packshot.diffusion.weights import WeightsHeader, read_weights, write_weights
from packshot.domain.generation import SamplingSettings
from packshot.domain.models import FineTune
from packshot.domain.training_choices import Method, Targets
from packshot.ports import LoadedFineTune, Progress

TOLERANCE = 1e-4  # of a pixel, in [-1, 1]


def fine_tune(studio: Studio, method: Method, seed: int, *, rank: int = 2, **config: Any) -> LoadedFineTune:
    """A fine-tune whose parameters are random instead of trained, with a token of its own."""
    token = f"<packshot-{seed:012x}>"
    config = {"train_text_encoder": method.can_train_text_encoder} | config
    settings = quick(studio.base.family, method=method, rank=rank, **config)
    with studio.bases.borrow(studio.base) as base, base.with_token(token, base.initial_rows("apple", seed, 1)) as rows:
        attachment = METHODS[method].attach(base, rows, settings)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in attachment.parameters.values():
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(noise, alpha=0.3 * parameter.std(correction=0).clamp(0.1).item())
        tensors = {TOKEN_PREFIX + name: row for name, row in rows.items()} | attachment.parameters
        tensors = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        attachment.detach()
    header = WeightsHeader(
        method=method,
        family=studio.base.family,
        base_digest=studio.base.digest,
        token=token,
        trained_phrase=f"{token} apple",
        class_noun="apple",
        rank=rank,
        alpha=rank,
        config="{}",
    )
    return as_loaded(studio, header, tensors)


def as_loaded(studio: Studio, header: WeightsHeader, tensors: dict[str, Tensor]) -> LoadedFineTune:
    record = FineTune(
        id=f"ft_{header.token}",
        category_id="cat_1",
        version=1,
        training_run_id="run_1",
        base_id=studio.base.id,
        method=header.method,
        token=header.token,
        trained_phrase=header.trained_phrase,
        artifacts=(),
        code_revision="0.1.0",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    return held(record, write_weights(header, tensors))


def every_kind(studio: Studio) -> list[LoadedFineTune | None]:
    """The bare base, every method, DoRA, other ranks and other layers."""
    return [
        None,
        *(fine_tune(studio, method, 1 + number) for number, method in enumerate(Method)),
        fine_tune(studio, Method.LORA, 11, rank=3, use_dora=True, targets=Targets.ALL),
        fine_tune(studio, Method.PIVOTAL, 12, rank=5, targets=Targets.ALL),
        fine_tune(studio, Method.LORA, 13, rank=1, targets=Targets.ATTENTION),
        fine_tune(studio, Method.HYPERNETWORK, 14, rank=4),
    ]


def prompt_for(tuned: LoadedFineTune | None, scene: str = "on a table") -> str:
    return f"a {tuned.record.trained_phrase} {scene}" if tuned else f"an apple {scene}"


def floats_instead_of_pngs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the engine deliver what it decoded, unrounded."""
    monkeypatch.setattr("packshot.diffusion.samples.png_from_pixels", lambda pixels: pixels.cpu().numpy().tobytes())


def as_floats(delivered: bytes) -> Tensor:
    return torch.frombuffer(bytearray(delivered), dtype=torch.float32)


def mixed(studio: Studio, requests: Sequence[tuple[int, PictureRequest]], limits: EngineLimits) -> list[Ticket]:
    """Sample ``requests`` in this thread; each joins when so many batches have passed since the beginning."""
    waiting = sorted(requests, key=lambda each: each[0])
    turns: Turns[Prepared] = Turns()
    changed = Condition()
    tickets: list[Ticket] = []
    passed = 0

    def listen(event: Event) -> None:
        nonlocal passed
        if isinstance(event, Progress):
            passed += 1
            join()

    def join() -> None:
        with changed:
            while waiting and waiting[0][0] <= passed:
                tickets.append(Ticket(waiting.pop(0)[1], listen))
                turns.add(tickets[-1])

    with studio.bases.borrow(studio.base) as base:
        resident = Resident(base, limits)
        while waiting:
            passed = max(passed, waiting[0][0])
            join()
            Session(
                base=base,
                base_digest=studio.base.digest,
                resident=resident,
                turns=turns,
                changed=changed,
                max_batch=limits.max_batch,
            ).run()
    return tickets


@torch.inference_mode()
def plain(base: Family, request: PictureRequest) -> list[Tensor]:
    """The request's pictures as floats, one after the other, the fine-tune multiplied out into the base's weights."""
    if request.fine_tune is None:
        return _sampled(base, request)
    with applied(base, *read_weights(request.fine_tune.read())):
        return _sampled(base, request)


def _sampled(base: Family, request: PictureRequest) -> list[Tensor]:
    sampling = request.sampling
    guided = sampling.guidance_scale > 1 and not base.embeds_guidance
    width, height = sampling.width, sampling.height
    pictures: list[Tensor] = []
    for prompt in request.prompts:
        told = base.encode_prompts([sampling.negative_prompt, prompt] if guided else [prompt])
        frames = torch.tensor([[height, width, 0, 0, height, width]] * (2 if guided else 1), dtype=torch.float32)
        told |= base.picture_conditioning(frames, sampling.guidance_scale)
        for number in range(sampling.num_images):
            shape = base.latent_shape(width, height)
            sampler = base.new_sampler(sampling.inference_steps, shape, sampling.scheduler)
            latents = torch.randn(shape, generator=torch.Generator().manual_seed(sampling.seed + number))[None]
            latents = latents * sampler.init_noise_sigma
            for timestep in sampler.timesteps:
                model_input = sampler.scale_model_input(torch.cat([latents] * (2 if guided else 1)), timestep)
                prediction = base.predict(model_input, timestep.expand(len(model_input)), told)
                if guided:
                    without, given = prediction.chunk(2)
                    prediction = without + sampling.guidance_scale * (given - without)
                latents = sampler.step(prediction, timestep, latents, return_dict=False)[0]
            pictures.append(base.decode_latents(latents[0]).flatten())
    return pictures


def random_requests(
    studio: Studio, kinds: Sequence[LoadedFineTune | None], chance: random.Random
) -> list[tuple[int, PictureRequest]]:
    """Requests of other fine-tunes, steps, guidance, seeds, schedulers and sizes, which join at any step."""
    family = studio.base.family
    schedulers = ["", "flow-match-euler"] if family in FLOWS else ["", "ddim", "euler", "dpmsolver++"]
    requests: list[tuple[int, PictureRequest]] = []
    for _ in range(chance.randint(3, 7)):
        tuned = chance.choice(kinds)
        sampling = SamplingSettings(
            seed=chance.randrange(1000),
            num_images=chance.choice([1, 1, 2]),
            inference_steps=chance.randint(1, 6),
            guidance_scale=chance.choice([0.5, 1.0, 2.0, 4.5]),
            negative_prompt=chance.choice(["", "blurry"]) if family != "flux" else "",
            width=chance.choice([RESOLUTION, RESOLUTION, 2 * RESOLUTION]),
            height=RESOLUTION,
            scheduler=chance.choice(schedulers),
        )
        request = PictureRequest(
            base=studio.base,
            fine_tune=tuned,
            prompts=(prompt_for(tuned, chance.choice(["", "on grass"])),),
            sampling=sampling,
            caller=chance.choice(["one", "two"]),
        )
        requests.append((chance.randrange(12), request))
    return requests


def schedules(studio: Studio, kinds: Sequence[LoadedFineTune | None], seed: int) -> Iterator[tuple[set[Method], float]]:
    """Sample random mixtures, one after the other without end: the methods in each, and the largest difference of any
    pixel from the same picture made alone.

    The pictures must come as floats, see ``floats_instead_of_pngs``.
    """
    for number in count():
        chance = random.Random(f"{seed} {number}")
        requests = random_requests(studio, kinds, chance)
        limits = EngineLimits(max_batch=chance.randint(2, 6), adapter_ranks=chance.choice([5, 9, 64]))
        largest = 0.0
        for ticket in mixed(studio, requests, limits):
            with studio.bases.borrow(studio.base) as base:
                expected = plain(base, ticket.request)
            for found, alone in zip(ticket.result(0), expected, strict=True):
                largest = max(largest, (as_floats(found) - alone).abs().max().item())
        yield {request.fine_tune.record.method for _, request in requests if request.fine_tune}, largest


def damaged(tuned: LoadedFineTune, **changes: Any) -> LoadedFineTune:
    """The fine-tune with other fields in its header, or ``tensors``."""
    header, tensors = read_weights(tuned.read())
    tensors = changes.pop("tensors", tensors)
    return held(tuned.record, write_weights(replace(header, **changes), tensors))
