"""The engine: mixed batches equal solo runs, whatever is in them; turns, bounds, and errors that stay with one request."""

import io
import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from fixtures_families import FAMILIES, FLOWS, plain_pictures, plain_pipeline
from fixtures_mixtures import (
    TOLERANCE,
    as_floats,
    damaged,
    every_kind,
    fine_tune,
    floats_instead_of_pngs,
    mixed,
    plain,
    prompt_for,
    schedules,
)
from fixtures_pipelines import RESOLUTION, Studio, base_state, held, png, silent
from PIL import Image
from safetensors.torch import load

from packshot.diffusion.interop import to_diffusers
from packshot.diffusion.pictures import pixels_from_png
from packshot.diffusion.resident import EngineLimits
from packshot.diffusion.tickets import Event, PictureRequest, Preview, Ticket
from packshot.diffusion.weights import read_weights
from packshot.domain.errors import (
    CorruptArtifact,
    IncompatibleFineTune,
    Interrupted,
    InvalidInput,
    PackshotError,
    QueueFull,
    SamplingFailed,
    SchedulerRefused,
)
from packshot.domain.generation import SamplingSettings
from packshot.domain.training_choices import Method, Targets
from packshot.ports import LoadedFineTune, Progress

SAMPLING = SamplingSettings(inference_steps=3, guidance_scale=3.0, width=RESOLUTION, height=RESOLUTION)


@pytest.fixture(scope="module")
def kinds(family_studios: dict[str, Studio]) -> dict[str, list[LoadedFineTune | None]]:
    return {family: every_kind(studio) for family, studio in family_studios.items()}


@pytest.fixture
def floats(monkeypatch: pytest.MonkeyPatch) -> None:
    floats_instead_of_pngs(monkeypatch)


def request_of(studio: Studio, tuned: LoadedFineTune | None = None, **changes: Any) -> PictureRequest:
    fields = {name: changes.pop(name) for name in ("caller", "preview_every", "prompts") if name in changes}
    request = PictureRequest(
        base=studio.base,
        fine_tune=tuned,
        prompts=(prompt_for(tuned),),
        sampling=replace(SAMPLING, **changes),
    )
    return replace(request, **fields)


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)), dtype=np.int16)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_picture_of_a_mixed_batch_is_what_it_is_alone(
    family: str, kinds: dict[str, list[LoadedFineTune | None]], family_studios: dict[str, Studio], floats: None
) -> None:
    mixtures = islice(schedules(family_studios[family], kinds[family], seed=5), 4)
    assert max(difference for _, difference in mixtures) <= TOLERANCE


@pytest.mark.parametrize("family", FAMILIES)
def test_one_batch_of_every_method_equals_the_base_with_each_in_turn(
    family: str, kinds: dict[str, list[LoadedFineTune | None]], family_studios: dict[str, Studio], floats: None
) -> None:
    studio = family_studios[family]
    requests = [(0, request_of(studio, tuned, seed=9)) for tuned in kinds[family]]
    before = base_state(studio)
    tickets = mixed(studio, requests, EngineLimits(max_batch=len(requests)))
    pictures = [as_floats(ticket.result(0)[0]) for ticket in tickets]
    with studio.bases.borrow(studio.base) as base:
        for ticket, found in zip(tickets, pictures, strict=True):
            (expected,) = plain(base, ticket.request)
            assert (found - expected).abs().max() <= TOLERANCE, ticket.request.fine_tune
    assert min((one - other).abs().max() for one in pictures for other in pictures if one is not other) > 20 * TOLERANCE
    assert base_state(studio) == before


@pytest.mark.parametrize("family", FAMILIES)
def test_a_mixed_batch_of_adapters_equals_the_plain_pipelines_one_by_one(
    family: str, family_studios: dict[str, Studio], floats: None
) -> None:
    studio = family_studios[family]
    dora = {"use_dora": True, "targets": Targets.ATTENTION, "train_text_encoder": False}
    tuned = [
        _without_token(fine_tune(studio, Method.LORA, 0)),
        _without_token(fine_tune(studio, Method.LORA, 1, rank=3, targets=Targets.ALL)),
        _without_token(fine_tune(studio, Method.LORA, 2, **dora)),
    ]
    requests = [
        request_of(studio, each, prompts=(f"an apple number {number}",), seed=number, inference_steps=5)
        for number, each in enumerate(tuned)
    ]
    tickets = mixed(studio, [(2 * number, each) for number, each in enumerate(requests)], EngineLimits())
    for ticket, each in zip(tickets, tuned, strict=True):
        pipeline = plain_pipeline(studio.folder, family)
        with studio.bases.borrow(studio.base) as base:
            (published,) = to_diffusers(base, *read_weights(each.read())).values()
        pipeline.load_lora_weights(load(published))
        latents = torch.randn(
            (1, 4, RESOLUTION // 2, RESOLUTION // 2),
            generator=torch.Generator().manual_seed(ticket.request.sampling.seed),
        )
        expected = plain_pictures(pipeline, family, latents, list(ticket.request.prompts))
        found = as_floats(ticket.result(0)[0]).clamp(-1, 1)
        assert (found - expected.flatten()).abs().max() <= TOLERANCE


def _without_token(tuned: LoadedFineTune) -> LoadedFineTune:
    _, tensors = read_weights(tuned.read())
    own = {name: tensor for name, tensor in tensors.items() if not name.startswith("token.")}
    return replace(damaged(tuned, tensors=own, token=""), record=replace(tuned.record, token=""))


SCHEDULER_CLASSES = {
    "ddim": "DDIMScheduler",
    "euler": "EulerDiscreteScheduler",
    "dpmsolver++": "DPMSolverMultistepScheduler",
}


@pytest.mark.parametrize("scheduler", list(SCHEDULER_CLASSES))
@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in FLOWS])
def test_schedulers_equal_those_of_the_plain_pipeline(
    family: str, scheduler: str, family_studios: dict[str, Studio], floats: None
) -> None:
    import diffusers

    studio = family_studios[family]
    request = request_of(studio, prompts=("a pear",), seed=3, inference_steps=7, scheduler=scheduler)
    (ticket,) = mixed(studio, [(0, request)], EngineLimits())
    pipeline = plain_pipeline(studio.folder, family)
    pipeline.scheduler = getattr(diffusers, SCHEDULER_CLASSES[scheduler]).from_config(pipeline.scheduler.config)
    expected = pipeline(
        "a pear",
        latents=torch.randn((4, 8, 8), generator=torch.Generator().manual_seed(3))[None],
        num_inference_steps=7,
        guidance_scale=SAMPLING.guidance_scale,
        width=RESOLUTION,
        height=RESOLUTION,
        output_type="pt",
    ).images
    found = as_floats(ticket.result(0)[0]).clamp(-1, 1)
    assert (found - (expected * 2 - 1).flatten()).abs().max() <= TOLERANCE


IMG2IMG = {
    "stable-diffusion": "StableDiffusionImg2ImgPipeline",
    "stable-diffusion-xl": "StableDiffusionXLImg2ImgPipeline",
    "stable-diffusion-3": "StableDiffusion3Img2ImgPipeline",
    "flux": "FluxImg2ImgPipeline",
}


@pytest.mark.parametrize("strength", [0.45, 1.0])
@pytest.mark.parametrize(
    ("family", "scheduler"),
    [
        *(("stable-diffusion", scheduler) for scheduler in ("ddim", "euler", "dpmsolver++")),
        *((family, "") for family in FAMILIES[1:]),
    ],
)
def test_what_begins_from_a_layout_equals_the_plain_pipeline(
    family: str, scheduler: str, strength: float, family_studios: dict[str, Studio], floats: None
) -> None:
    import diffusers

    studio, layout = family_studios[family], png(4, size=(RESOLUTION, RESOLUTION))
    sampling = {"layout": "0" * 64, "strength": strength, "inference_steps": 7, "scheduler": scheduler, "seed": 3}
    request = replace(request_of(studio, prompts=("a pear",), **sampling), layout=layout)
    others = [(0, request_of(studio)), (1, request)]
    tickets = mixed(studio, others, EngineLimits())
    loaded = plain_pipeline(studio.folder, family)
    if scheduler:
        loaded.scheduler = getattr(diffusers, SCHEDULER_CLASSES[scheduler]).from_config(loaded.scheduler.config)
    pipeline = getattr(diffusers, IMG2IMG[family])(**loaded.components)
    pipeline.set_progress_bar_config(disable=True)
    options = {"max_sequence_length": pipeline.tokenizer_2.model_max_length} if family == "flux" else {}
    if family == "stable-diffusion-3":
        options = {"max_sequence_length": pipeline.tokenizer_3.model_max_length}
    if family in FLOWS:
        options |= {"width": RESOLUTION, "height": RESOLUTION}
    expected = pipeline(
        "a pear",
        image=pixels_from_png(layout, (RESOLUTION, RESOLUTION))[None] / 2 + 0.5,
        strength=strength,
        generator=torch.Generator().manual_seed(3),
        num_inference_steps=7,
        guidance_scale=SAMPLING.guidance_scale,
        output_type="pt",
        **options,
    ).images
    found = as_floats(tickets[1].result(0)[0]).clamp(-1, 1)
    assert (found - (expected * 2 - 1).flatten()).abs().max() <= TOLERANCE


@pytest.mark.parametrize(("family", "scheduler"), [("stable-diffusion", "flow-match-euler"), ("flux", "ddim")])
def test_a_scheduler_that_does_not_go_with_the_base_is_refused(
    family: str, scheduler: str, family_studios: dict[str, Studio]
) -> None:
    studio = family_studios[family]
    with pytest.raises(SchedulerRefused, match=scheduler):
        studio.engine.submit(request_of(studio, scheduler=scheduler)).result()


def test_an_unknown_scheduler_is_refused() -> None:
    with pytest.raises(SchedulerRefused, match="'heun'; take one of ddim"):
        replace(SAMPLING, scheduler="heun")


def test_what_one_request_brings_on_itself_ends_it_alone(
    studio: Studio, kinds: dict[str, list[LoadedFineTune | None]]
) -> None:
    lora = next(each for each in kinds["stable-diffusion"] if each and each.record.method is Method.LORA)
    _, tensors = read_weights(lora.read())
    broken = {name: torch.full_like(tensor, torch.nan) for name, tensor in tensors.items() if "lora_B" in name}
    cut = {name: tensor for name, tensor in tensors.items() if "lora_B" not in name}
    bad: list[tuple[PictureRequest, type[PackshotError]]] = [
        (request_of(studio, held(lora.record, lora.read()[:-9])), CorruptArtifact),
        (request_of(studio, damaged(lora, base_digest="0" * 64)), IncompatibleFineTune),
        (request_of(studio, damaged(lora, tensors=cut)), IncompatibleFineTune),
        (request_of(studio, damaged(lora, tensors=tensors | broken)), SamplingFailed),
        (request_of(studio, damaged(lora, token="<packshot-other>")), CorruptArtifact),
        (request_of(studio, inference_steps=999), InvalidInput),
        (request_of(studio, scheduler="flow-match-euler"), SchedulerRefused),
    ]
    good = [request_of(studio, lora, seed=seed, inference_steps=6) for seed in range(4)]
    expected = [studio.engine.submit(each).result() for each in good]
    tickets: list[Ticket] = []
    for number, (request, _) in enumerate(bad):
        tickets += [studio.engine.submit(request), studio.engine.submit(good[number % len(good)])]
    for number, (_, error) in enumerate(bad):
        with pytest.raises(error):
            tickets[2 * number].result()
        (found,), (alone,) = tickets[2 * number + 1].result(), expected[number % len(good)]
        assert np.abs(pixels(found) - pixels(alone)).max() <= 1


def test_a_request_on_which_the_denoiser_fails_ends_alone(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    with studio.bases.borrow(studio.base) as base:
        predict = base.predict

        def fail(noisy: torch.Tensor, *others: Any) -> torch.Tensor:
            if (noisy == _first_noise(13)).any():
                raise RuntimeError("out of memory")
            return predict(noisy, *others)

        monkeypatch.setattr(base, "predict", fail)
        tickets = [studio.engine.submit(request_of(studio, seed=seed)) for seed in (12, 13, 14)]
    with pytest.raises(RuntimeError, match="out of memory"):
        tickets[1].result()
    assert len(tickets[0].result() + tickets[2].result()) == 2


def _first_noise(seed: int) -> float:
    return torch.randn((4, 8, 8), generator=torch.Generator().manual_seed(seed))[0, 0, 0].item()


def test_a_full_queue_lets_nobody_in(base_folder: Any) -> None:
    studio = Studio(base_folder, max_queue=3, max_batch=1)
    with studio.bases.borrow(studio.base):  # nothing is sampled yet
        tickets = [studio.engine.submit(request_of(studio, num_images=2)) for _ in range(2)]
        with pytest.raises(QueueFull, match="4 pictures wait"):
            studio.engine.submit(request_of(studio))
        patient = threading.Thread(
            target=studio.generator.generate, args=(studio.base, None, ["a pear"], SAMPLING), kwargs={"report": silent}
        )
        patient.start()
    assert [len(ticket.result()) for ticket in tickets] == [2, 2]
    patient.join()
    assert len(studio.engine.submit(request_of(studio)).result()) == 1


def test_a_canceled_request_leaves_the_batch_and_the_others_go_on(studio: Studio) -> None:
    begun = threading.Event()

    def listen(event: Event) -> None:
        if isinstance(event, Progress):
            begun.set()

    long = studio.engine.submit(request_of(studio, inference_steps=400, num_images=8), listen)
    assert begun.wait(60)
    other = studio.engine.submit(request_of(studio, caller="another"))
    long.cancel()
    assert len(other.result()) == 1
    with pytest.raises(Interrupted, match="canceled"):
        long.result()


def test_previews_show_the_picture_as_it_becomes(studio: Studio) -> None:
    events: list[Event] = []
    request = request_of(studio, preview_every=2, inference_steps=6, num_images=2)
    pngs = studio.engine.submit(request, events.append).result()
    previews = [event for event in events if isinstance(event, Preview)]
    assert sorted((each.number, each.step) for each in previews) == [(0, 2), (0, 4), (1, 2), (1, 4)]
    for number, final in enumerate(pngs):
        far = {each.step: np.abs(pixels(each.png) - pixels(final)).mean() for each in previews if each.number == number}
        assert far[4] < far[2]
    assert events[-1] is None


def test_callers_take_turns(base_folder: Any) -> None:
    studio = Studio(base_folder, max_batch=2)
    order: list[str] = []

    def noted(caller: str) -> Callable[[Event], None]:
        return lambda event: order.append(caller) if event is None else None

    with studio.bases.borrow(studio.base):
        tickets = [studio.engine.submit(request_of(studio, caller="many"), noted("many")) for _ in range(6)]
        tickets.append(studio.engine.submit(request_of(studio, caller="one"), noted("one")))
    for ticket in tickets:
        ticket.result()
    assert order.index("one") <= 1


def test_more_fine_tunes_than_there_is_room_for(base_folder: Any) -> None:
    """Every one is loaded, evicted and loaded again, and its pictures stay what they are."""
    studio = Studio(base_folder, max_batch=4, adapter_ranks=6, max_replicas=1, adapter_cache_mib=0, prompt_cache_mib=0)
    tuned = [fine_tune(studio, Method.LORA, seed, rank=2) for seed in range(6)]
    tuned += [fine_tune(studio, Method.FULL, 6), fine_tune(studio, Method.FULL, 7)]
    tuned += [fine_tune(studio, Method.LORA, 8, rank=7), fine_tune(studio, Method.HYPERNETWORK, 9, rank=3)]
    expected = [studio.engine.submit(request_of(studio, each)).result()[0] for each in tuned]
    assert len(set(expected)) == len(tuned)
    rounds = [
        [studio.engine.submit(request_of(studio, each, caller=str(number % 3))) for number, each in enumerate(tuned)]
        for _ in range(4)
    ]
    for tickets in rounds:
        for ticket, alone in zip(tickets, expected, strict=True):
            assert np.abs(pixels(ticket.result()[0]) - pixels(alone)).max() <= 1


def test_steps_fills_and_slots_are_counted(base_folder: Any) -> None:
    studio = Studio(base_folder, max_batch=4, adapter_ranks=6)
    lora, other, wide = (fine_tune(studio, Method.LORA, seed, rank=rank) for seed, rank in enumerate((2, 2, 6)))
    tickets = [
        studio.engine.submit(request_of(studio, lora, num_images=2)),
        studio.engine.submit(request_of(studio)),
    ]
    for ticket in tickets:
        ticket.result()
    first = studio.engine.tally.take()
    assert (first.slot_misses, first.slot_hits) == (1, 1)
    assert first.batch_fill.total == 3 * 3 / 4
    assert sum(first.step_seconds.counts) == sum(first.batch_fill.counts) >= 3  # whoever is ready first begins alone
    assert first.step_seconds.total > 0
    for tuned in (other, wide, lora):  # there is no room for the wide one beside any other
        studio.engine.submit(request_of(studio, tuned)).result()
    then = studio.engine.tally.take()
    assert (then.slot_misses, then.slot_hits) == (3, 0)
    assert sum(then.step_seconds.counts) == 9
    assert then.batch_fill.counts[1] == sum(then.batch_fill.counts) == 9  # one picture of four each


def test_bases_take_turns(studio: Studio, family_studios: dict[str, Studio]) -> None:
    other = family_studios["flux"]
    there = studio.bases.describe(str(other.folder))
    tickets = [
        studio.engine.submit(replace(request_of(studio), base=base)) for base in (studio.base, there, studio.base)
    ]
    first, second, third = (ticket.result()[0] for ticket in tickets)
    assert np.abs(pixels(first) - pixels(third)).max() <= 1
    assert np.abs(pixels(second) - pixels(other.engine.submit(request_of(other)).result()[0])).max() <= 1


def test_a_base_that_is_gone_fails_those_who_asked_for_it(studio: Studio) -> None:
    gone = replace(studio.base, source="/nowhere/at/all", digest="0" * 64)
    lost = studio.engine.submit(replace(request_of(studio), base=gone))
    with pytest.raises(PackshotError, match="nowhere"):
        lost.result()
    assert studio.engine.submit(request_of(studio)).result()
