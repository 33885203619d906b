"""Benchmark 7: how much of this machine's matrix-product rate training and sampling reach, in 32-bit floats.

Measured on the bundled base, and on Stable Diffusion 1.5's own widths with random weights, whose layers are those of a base
that people use. Operations are those of torch's counter; the peak is a 2048 x 2048 product in the same run, same threads, same floats.
"""

import dataclasses
import time
from statistics import median

import torch

from benchmarks.bases import Bench, bundled, shaped_like_sd15
from benchmarks.flops import count, matmul_peak
from benchmarks.harness import Row, Setting, interleaved
from packshot.domain.generation import SamplingSettings
from packshot.domain.training import TrainingConfig
from packshot.ports import Progress

CONFIG = TrainingConfig(
    snr_gamma=0.0,
    num_class_images=8,
    class_inference_steps=2,
    checkpoint_every_steps=1_000_000,
)
PROMPTS = ["a photo of an apple on a wooden table"]
NUM_IMAGES = 8
WIDE_RESOLUTION = 256


def measure(setting: Setting) -> list[Row]:
    """Shares of the peak in training and in sampling; ``quick`` measures the bundled base alone."""
    torch.set_num_threads(setting.threads)
    steps = 4 if setting.quick else 12
    with bundled() as bench:
        rows = shares(bench, "bundled base", 8, steps, setting.rounds)
    if not setting.quick:
        with shaped_like_sd15(divisor=1, resolution=WIDE_RESOLUTION) as bench:
            label = f"Stable Diffusion 1.5's widths at {WIDE_RESOLUTION} px"
            rows += shares(bench, label, 4, 2, setting.rounds)  # twice as many would take some 30 GiB
    return rows


def shares(bench: Bench, label: str, batch: int, steps: int, rounds: int) -> list[Row]:
    """The peak, and what so many training steps of ``batch`` + ``batch`` pictures and twice as many denoising steps reach."""
    # The first training fills the caches; the difference of two counts is one step, without what surrounds it.
    train(bench, batch, 1)
    per_training_step = count(lambda: train(bench, batch, 2)) - count(lambda: train(bench, batch, 1))
    per_sampling_step = sampling_operations(bench)
    found = interleaved(
        {
            "peak": lambda: max(matmul_peak() for _ in range(3)),
            "training": lambda: per_training_step / seconds_per_step(bench, batch, steps),
            "sampling": lambda: per_sampling_step / sampling_seconds(bench, 2 * steps),
        },
        rounds,
    )
    peak = median(found["peak"])
    rows = [Row(label=f"matrix product, beside {label}", value=peak / 1e9, unit="GFLOP/s")]
    for name, pictures in (("training", f"batch {batch} + {batch}"), ("sampling", f"batch {NUM_IMAGES}, guided")):
        share = median(found[name]) / peak
        rows.append(Row(label=f"{label}, {name}, {pictures}: share of the peak", value=share, unit="", at_least=0.6))
    return rows


def train(bench: Bench, batch: int, steps: int, stamps: list[float] | None = None) -> None:
    """A training of so many steps; the time of each report goes to ``stamps``."""

    def report(progress: Progress) -> None:
        if stamps is not None and progress.phase == "training":
            stamps.append(time.perf_counter())

    bench.trainer.train(
        bench.task(dataclasses.replace(CONFIG, batch_size=batch, steps=steps)), report=report, stop=lambda: False
    )


def seconds_per_step(bench: Bench, batch: int, steps: int) -> float:
    """Mean seconds of a training step after the first."""
    stamps: list[float] = []
    train(bench, batch, steps, stamps)
    return (stamps[-1] - stamps[0]) / (len(stamps) - 1)


def sampling_operations(bench: Bench) -> float:
    """Of the denoiser, for eight pictures with and without the prompt; the engine computes in a thread that is not counted."""
    rows = 2 * NUM_IMAGES
    with bench.bases.borrow(bench.base) as base, torch.no_grad():
        edge = base.resolution
        prompts = base.encode_prompts(PROMPTS * rows)
        frames = base.picture_conditioning(torch.tensor([[edge, edge, 0, 0, edge, edge]] * rows).float(), 1.0)
        latents = torch.randn(rows, *base.latent_shape(edge, edge))
        return count(lambda: base.predict(latents, torch.zeros(rows, dtype=torch.long), prompts | frames))


def sample(bench: Bench, steps: int, stamps: list[float] | None = None) -> None:
    """Eight guided pictures; the time at which each step is first reported goes to ``stamps``."""
    told = 0

    def report(progress: Progress) -> None:
        nonlocal told
        if stamps is not None and progress.step > told:
            stamps.append(time.perf_counter())
        told = progress.step

    settings = SamplingSettings(seed=0, num_images=NUM_IMAGES, inference_steps=steps)
    bench.generator.generate(bench.base, None, PROMPTS, settings, report=report)


def sampling_seconds(bench: Bench, steps: int) -> float:
    """Mean seconds of a denoising step after the first."""
    stamps: list[float] = []
    sample(bench, steps, stamps)
    return (stamps[-1] - stamps[0]) / (len(stamps) - 1)
