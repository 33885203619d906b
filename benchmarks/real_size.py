"""Benchmark 13: LoRA steps of a UNet of Stable Diffusion 1.5's real size at 512 pixels, beside the reference recipe.

Random weights from the published configuration, one picture a step, no prior preservation, 2 threads; bfloat16 where the
processor multiplies it, else 32-bit floats, since others only emulate it (docs/log.md: a short run did not end in time). Both
take the same number of steps, each in a process of its own, so that the peak of its memory is its own: that of the
whole process, from loading to the last step. Both read the same files; the recipe keeps its frozen parts in the same
floats, as its published script does, and encodes pixels and prompt in every step.
"""

import dataclasses
import json
import resource
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.training_utils import cast_training_params
from peft import LoraConfig
from torch.nn import functional

from benchmarks.bases import Bench, save_sd15
from benchmarks.harness import Row, Setting
from benchmarks.train_one import CONFIG
from packshot.diffusion.floats import resolved
from packshot.domain.training_choices import MixedPrecision
from packshot.ports import Progress

STEPS = 5  # of which the first is no part of the median
_GIB_OF_KB = 2**20
_BF16 = resolved(MixedPrecision.AUTO, torch.device("cpu")) is MixedPrecision.BF16


def measure(setting: Setting) -> list[Row]:
    """Seconds a step and peak memory; ``quick`` measures an eighth of every width at 128 pixels."""
    divisor, resolution = (8, 128) if setting.quick else (1, 512)
    with TemporaryDirectory() as work:
        _process("save", work, divisor, resolution, setting.threads)
        ours, reference = (_process(name, work, divisor, resolution, setting.threads) for name in ("ours", "reference"))
    labels = {"seconds": ("LoRA step", "s"), "memory": ("peak memory of the process", "GiB")}
    return [
        Row(
            label=f"{label}, batch 1, {resolution} px, widths / {divisor}, {'bfloat16' if _BF16 else '32-bit floats'}",
            value=ours[name],
            unit=unit,
            peer_value=reference[name],
            ratio=reference[name] / ours[name],
        )
        for name, (label, unit) in labels.items()
    ]


def _process(name: str, work: str, divisor: int, resolution: int, threads: int) -> dict[str, float]:
    arguments = [name, work, str(divisor), str(resolution), str(threads)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.real_size", *arguments], check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def save(work: Path, divisor: int, resolution: int) -> list[float]:
    """Write the base."""
    save_sd15(work / "base", divisor=divisor, resolution=resolution)
    return [0.0, 0.0]


def ours(work: Path, divisor: int, resolution: int) -> list[float]:
    """Times at which the trainer reports a step."""
    del divisor
    stamps: list[float] = []

    def report(progress: Progress) -> None:
        if progress.phase == "training":
            stamps.append(time.perf_counter())

    config = dataclasses.replace(
        CONFIG,
        batch_size=1,
        steps=STEPS + 1,
        prior_weight=0.0,
        mixed_precision=MixedPrecision.BF16 if _BF16 else MixedPrecision.NO,
        resolution=resolution,
    )
    bench = Bench(work / "base", work)
    bench.trainer.train(bench.task(config, photos=2), report=report, stop=lambda: False)
    return stamps


def reference(work: Path, divisor: int, resolution: int) -> list[float]:
    """Times at which the reference recipe has taken a step."""
    del divisor
    kept = torch.bfloat16 if _BF16 else torch.float32
    pipeline = StableDiffusionPipeline.from_pretrained(work / "base", safety_checker=None, dtype=kept)
    vae, unet, text_encoder = pipeline.vae, pipeline.unet, pipeline.text_encoder
    for module in (vae, unet, text_encoder):
        module.requires_grad_(False)
    layers = ["to_k", "to_q", "to_v", "to_out.0"]
    unet.add_adapter(LoraConfig(r=CONFIG.rank, lora_alpha=CONFIG.rank, target_modules=layers))
    cast_training_params(unet, dtype=torch.float32)
    learning = [each for each in unet.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=CONFIG.learning_rate)
    schedule = cast(Any, DDPMScheduler).from_config(pipeline.scheduler.config)
    ids = pipeline.tokenizer(
        ["a photo of a sks apple"], padding="max_length", truncation=True, return_tensors="pt"
    ).input_ids
    pixels = torch.rand(1, 3, resolution, resolution) * 2 - 1
    stamps = [time.perf_counter()]
    for _ in range(STEPS):
        latents = vae.encode(pixels.to(kept)).latent_dist.sample() * vae.config.scaling_factor
        noise = torch.randn_like(latents)
        times = torch.randint(schedule.config.num_train_timesteps, (1,))
        states = text_encoder(ids)[0]
        with torch.autocast("cpu", torch.bfloat16, enabled=_BF16):
            predicted = unet(schedule.add_noise(latents, noise, times), times, states).sample
        functional.mse_loss(predicted.float(), noise.float()).backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        stamps.append(time.perf_counter())
    return stamps


def main() -> None:
    """One of the processes."""
    name, work, *numbers = sys.argv[1:]
    divisor, resolution, threads = (int(number) for number in numbers)
    torch.set_num_threads(threads)
    stamps = {"save": save, "ours": ours, "reference": reference}[name](Path(work), divisor, resolution)
    steps = [later - earlier for earlier, later in pairwise(stamps)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _GIB_OF_KB
    print(json.dumps({"seconds": median(steps[1:] or steps), "memory": peak}))


if __name__ == "__main__":
    main()
