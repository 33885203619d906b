"""Benchmark 7: how much of this machine's matrix-product rate training and sampling reach on the bundled base.

Operations are those of torch's counter; the peak is a 2048 x 2048 product in the same run, same threads, same floats.
"""

import dataclasses
import time
from statistics import median

import torch

from benchmarks.bases import Bench, bundled
from benchmarks.flops import count, matmul_peak
from benchmarks.harness import Row, Setting, interleaved
from packshot.domain.generation import SamplingSettings
from packshot.domain.training import TrainingConfig
from packshot.ports import Progress

CONFIG = TrainingConfig(
    batch_size=8,
    snr_gamma=0.0,
    num_class_images=8,
    class_inference_steps=2,
    checkpoint_every_steps=1_000_000,
)
PROMPTS = ["a photo of an apple on a wooden table"]
NUM_IMAGES = 8


def measure(setting: Setting) -> list[Row]:
    """Shares of the peak in training (8 + 8 pictures a step) and in sampling (8 pictures, guided)."""
    torch.set_num_threads(setting.threads)
    steps = 4 if setting.quick else 12
    with bundled() as bench:
        # The first training fills the caches; the difference of two counts is one step, without what surrounds it.
        train(bench, 1)
        per_training_step = count(lambda: train(bench, 2)) - count(lambda: train(bench, 1))
        per_sampling_step = sampling_operations(bench)
        found = interleaved(
            {
                "peak": lambda: max(matmul_peak() for _ in range(3)),
                "training": lambda: per_training_step / seconds_per_step(bench, steps),
                "sampling": lambda: per_sampling_step / sampling_seconds(bench, 2 * steps),
            },
            setting.rounds,
        )
    peak = median(found["peak"])
    rows = [Row(label="matrix product", value=peak / 1e9, unit="GFLOP/s")]
    for name, batch in (("training", "batch 8 + 8"), ("sampling", "batch 8, guided")):
        share = median(found[name]) / peak
        rows.append(Row(label=f"{name}, {batch}: share of the peak", value=share, unit="", at_least=0.6))
    return rows


def train(bench: Bench, steps: int, stamps: list[float] | None = None) -> None:
    """A training of so many steps; the time of each report goes to ``stamps``."""

    def report(progress: Progress) -> None:
        if stamps is not None and progress.phase == "training":
            stamps.append(time.perf_counter())

    bench.trainer.train(bench.task(dataclasses.replace(CONFIG, steps=steps)), report=report, stop=lambda: False)


def seconds_per_step(bench: Bench, steps: int) -> float:
    """Mean seconds of a training step after the first."""
    stamps: list[float] = []
    train(bench, steps, stamps)
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
    """Eight guided pictures."""

    def report(progress: Progress) -> None:
        del progress
        if stamps is not None:
            stamps.append(time.perf_counter())

    settings = SamplingSettings(seed=0, num_images=NUM_IMAGES, inference_steps=steps)
    bench.generator.generate(bench.base, None, PROMPTS, settings, report=report)


def sampling_seconds(bench: Bench, steps: int) -> float:
    """Mean seconds of a denoising step after the first."""
    stamps: list[float] = []
    sample(bench, steps, stamps)
    return (stamps[-1] - stamps[0]) / (len(stamps) - 1)
