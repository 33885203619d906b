"""Benchmark 5: one fine-tune's step beside the reference DreamBooth LoRA recipe, at Stable Diffusion 1.5's FLOP ratio.

The peer is the published recipe (diffusers' DreamBooth LoRA example, its default options with prior preservation) in
plain diffusers and peft parts: every step encodes its pixels and its prompts. It gets its pixels decoded beforehand,
which the recipe does not. Both are measured in 32 bits, which is what the recipe takes when nobody says otherwise; where the
processor multiplies bfloat16, both in that too, and as they come, ours then being in bfloat16, which has no aim. That both
learn the same is tests/unit/diffusion/test_parity.py: equal loss curves to 1e-6 in 32 bits, so that the ratio of the time to an
equal validation loss is that of the steps.
"""

import dataclasses
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any, cast

import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from peft import LoraConfig
from torch.nn import functional

from benchmarks.bases import Bench, networks, shaped_like_sd15, text_width
from benchmarks.flops import count
from benchmarks.harness import Row, Setting, interleaved, versus
from packshot.diffusion.floats import HALVES, resolved
from packshot.domain.training import TrainingConfig
from packshot.domain.training_choices import HorizontalFlip, Method, MixedPrecision, Targets
from packshot.ports import Progress

DIVISOR, RESOLUTION = 4, 256
CONFIG = TrainingConfig(
    method=Method.LORA,
    targets=Targets.ATTENTION,
    rank=4,
    learning_rate=1e-4,
    snr_gamma=0.0,
    horizontal_flip=HorizontalFlip.OFF,
    num_class_images=4,
    class_inference_steps=2,
    checkpoint_every_steps=1_000_000,
)


def measure(setting: Setting) -> list[Row]:
    """Seconds a step at batch 1 + 1 and, unless quick, 4 + 4, and how far the small base keeps the real one's proportions."""
    torch.set_num_threads(setting.threads)
    rows = proportions()
    with shaped_like_sd15(divisor=DIVISOR, resolution=RESOLUTION) as bench:
        for batch in (1,) if setting.quick else (1, 4):
            rows += compare(bench, batch, setting)
    return rows


def compare(bench: Bench, batch: int, setting: Setting) -> list[Row]:
    """A step of ours beside one of the recipe's, in every pair of floats that says something on this processor."""
    by_default = resolved(MixedPrecision.AUTO, torch.device("cpu"))
    steps = 3 if setting.quick else 12 // batch + 3
    contestants: dict[str, Callable[[], float]] = {}
    for precision in dict.fromkeys([MixedPrecision.NO, by_default]):
        contestants[f"ours, {precision}"] = partial(our_step, bench, batch, steps, precision)
        contestants[f"reference, {precision}"] = reference(bench, batch, steps, precision)
    times = interleaved(contestants, setting.rounds)
    label = f"LoRA step with prior preservation, batch {batch} + {batch}"
    pairs = {"both in 32 bits": (MixedPrecision.NO, MixedPrecision.NO)}
    if by_default is MixedPrecision.BF16:
        pairs["both in bfloat16"] = (by_default, by_default)
        pairs["as they come: ours in bfloat16, the recipe in 32 bits"] = (by_default, MixedPrecision.NO)
    return [
        versus(
            f"{label}, {floats}",
            times[f"ours, {ours}"],
            times[f"reference, {theirs}"],
            "s",
            at_least=1.7 if ours is theirs else None,
        )
        for floats, (ours, theirs) in pairs.items()
    ]


def our_step(bench: Bench, batch: int, steps: int, precision: MixedPrecision) -> float:
    """Median seconds between two reports of the trainer."""
    stamps: list[float] = []

    def report(progress: Progress) -> None:
        if progress.phase == "training":
            stamps.append(time.perf_counter())

    config = dataclasses.replace(CONFIG, batch_size=batch, steps=steps, mixed_precision=precision)
    bench.trainer.train(bench.task(config), report=report, stop=lambda: False)
    return float(torch.tensor([later - earlier for earlier, later in pairwise(stamps)]).median())


def reference(
    bench: Bench, batch: int, steps: int, precision: MixedPrecision = MixedPrecision.NO
) -> Callable[[], float]:
    """A function that takes ``steps`` steps of the reference recipe and returns the median seconds of one.

    In bfloat16 the recipe keeps all weights short that do not learn, as it does with ``--mixed_precision bf16``.
    """
    pipeline = StableDiffusionPipeline.from_pretrained(bench.folder, safety_checker=None)
    vae, unet, text_encoder = pipeline.vae, pipeline.unet, pipeline.text_encoder
    for module in (vae, unet, text_encoder):
        module.requires_grad_(False).to(HALVES.get(precision, torch.float32))
    layers = ["to_k", "to_q", "to_v", "to_out.0"]
    unet.add_adapter(LoraConfig(r=CONFIG.rank, lora_alpha=CONFIG.rank, target_modules=layers))
    learning = [each for each in unet.parameters() if each.requires_grad]
    for each in learning:
        each.data = each.data.float()
    optimizer = torch.optim.AdamW(learning, lr=CONFIG.learning_rate)
    schedule = cast(Any, DDPMScheduler).from_config(pipeline.scheduler.config)
    prompts = ["a photo of a sks apple"] * batch + ["a photo of an apple"] * batch
    ids = pipeline.tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    pixels = torch.rand(2 * batch, 3, RESOLUTION, RESOLUTION, dtype=vae.dtype) * 2 - 1

    def step() -> None:
        latents = vae.encode(pixels).latent_dist.sample() * vae.config.scaling_factor
        noise = torch.randn_like(latents)
        times = torch.randint(schedule.config.num_train_timesteps, (2 * batch,))
        states = text_encoder(ids)[0]
        with torch.autocast("cpu", enabled=precision is not MixedPrecision.NO):
            predicted = unet(schedule.add_noise(latents, noise, times), times, states).sample
        halves = zip(predicted.float().chunk(2), noise.float().chunk(2), strict=True)
        instance, prior = (functional.mse_loss(*each) for each in halves)
        (instance + prior).backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    def run() -> float:
        stamps = [time.perf_counter()]
        for _ in range(steps):
            step()
            stamps.append(time.perf_counter())
        return float(torch.tensor([later - earlier for earlier, later in pairwise(stamps)]).median())

    return run


def proportions() -> list[Row]:
    """Operations of the parts for one picture, as multiples of the denoiser's: the small base's beside the real one's."""
    small, real = (part_flops(divisor, resolution) for divisor, resolution in ((DIVISOR, RESOLUTION), (1, 512)))
    return [
        Row(
            label=f"{name} / UNet, FLOPs of a forward pass (peer: real size at 512 px)",
            value=small[name] / small["unet"],
            unit="",
            peer_value=real[name] / real["unet"],
        )
        for name in ("vae", "text_encoder")
    ]


def part_flops(divisor: int, resolution: int) -> dict[str, float]:
    """Operations of encoding one picture, encoding one prompt, and one forward pass of the denoiser."""
    with torch.device("meta"), torch.no_grad():
        parts, edge = networks(divisor, resolution), resolution // 8
        text = torch.zeros(1, 77, dtype=torch.long)
        states = torch.zeros(1, 77, text_width(divisor, resolution))
        return {
            "vae": count(lambda: cast(Any, parts["vae"]).encode(torch.zeros(1, 3, resolution, resolution))),
            "text_encoder": count(lambda: parts["text_encoder"](text)),
            "unet": count(lambda: parts["unet"](torch.zeros(1, 4, edge, edge), torch.zeros(1), states)),
        }
