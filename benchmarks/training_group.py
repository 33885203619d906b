"""Benchmark 6: training the categories of one class together, beside the reference recipe one category after another.

    python -m benchmarks.training_group [--quick] [--base FOLDER] [--categories 16] [--out FILE]

The reference is DreamBooth with low-rank adapters as the diffusers examples configure it, written here anew with the parts
of diffusers and peft: every training loads the base, and every step encodes its pictures and prompts. Both see the same
photos, class images, steps, batches, optimiser and floats. The class images are made before the clock starts, for both.
Rounds are interleaved. A ratio counts only where each adapter equals that of a training alone, which is checked.
"""

import argparse
import io
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from peft import LoraConfig
from PIL import Image
from torch import Tensor, nn

from packshot.diffusion.bases import DiffusersBaseModels
from packshot.diffusion.components import without_progress_bars
from packshot.diffusion.generator import DiffusersGenerator
from packshot.diffusion.trainer import DiffusersTrainer
from packshot.digests import FileDigests
from packshot.domain.training import Method, Targets, TrainingConfig
from packshot.embedded.bundle import bundled_base
from packshot.ports import GroupMember, Progress, TrainedWeights, TrainingExample, TrainingTask

AIM = 7.0
NOUN = "apple"
NUM_PHOTOS = 4
LAYERS = ["to_q", "to_k", "to_v", "to_out.0"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table and write the results."""
    options = _options(arguments)
    num_categories = 2 if options.quick else options.categories
    config = TrainingConfig(
        method=Method.LORA,
        steps=2 if options.quick else 50,
        batch_size=1,
        rank=4,
        learning_rate=1e-4,
        targets=Targets.ATTENTION,
        snr_gamma=0.0,
        horizontal_flip=False,
        num_class_images=2 if options.quick else 16,
        class_inference_steps=2 if options.quick else 20,
        checkpoint_every_steps=1000,
    )
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Catalog(Path(folder), options.base, config, num_categories), 1 if options.quick else 5)
    report = {
        "name": "training-group",
        "command": " ".join(["python -m benchmarks.training_group", *(arguments or sys.argv[1:])]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.platform()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "rows": rows(figures, num_categories),
    }
    for row in report["rows"]:
        print(f"{row['label']}: {row['value']:.3f} {row['unit']}, ratio {row['ratio']}, holds: {row['holds']}")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(report, indent=1) + "\n")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two categories, two steps, one round")
    parser.add_argument("--base", type=Path, help="a folder with a Stable Diffusion base instead of the bundled one")
    parser.add_argument("--categories", type=int, default=16)
    parser.add_argument("--out", type=Path, help="write the results there, for example benchmarks/results/06-….json")
    return parser.parse_args(arguments)


class Catalog:
    """Categories of one class with photos of noise, whose content does not matter for time."""

    def __init__(self, folder: Path, base: Path | None, config: TrainingConfig, num_categories: int) -> None:
        self._folder = folder
        self.source = base or bundled_base()
        self.config = config
        self.num_categories = num_categories
        self._rounds = 0

    def trainer(self) -> tuple[DiffusersTrainer, DiffusersBaseModels]:
        """A trainer that has not loaded the base yet."""
        bases = DiffusersBaseModels(embedded=lambda: self.source, digests=FileDigests(), device="cpu")
        return DiffusersTrainer(bases, DiffusersGenerator(bases)), bases

    def tasks(self, bases: DiffusersBaseModels) -> list[TrainingTask]:
        """The trainings of the catalog, with checkpoints of their own each time."""
        self._rounds += 1
        base = bases.describe("embedded")
        return [
            TrainingTask(
                base=base,
                examples=tuple(
                    TrainingExample(image=picture(NUM_PHOTOS * number + at, base.resolution), caption="", mask=None)
                    for at in range(NUM_PHOTOS)
                ),
                class_noun=NOUN,
                token=f"<packshot-{number:012d}>",
                trained_phrase=f"<packshot-{number:012d}> {NOUN}",
                config=self.config,
                workdir=self._folder / f"round-{self._rounds}" / str(number),
                cachedir=self._folder / "cache",
            )
            for number in range(self.num_categories)
        ]

    @property
    def class_images(self) -> list[bytes]:
        """Those that a first training has made."""
        return [path.read_bytes() for path in sorted(self._folder.glob("cache/class-images/*/*/*.png"))]


def measure(catalog: Catalog, num_rounds: int) -> dict[str, Any]:
    """Seconds of every round, and whether each adapter equals that of a training alone."""
    solo = alone(catalog)  # also makes the class images, and warms up what loads once in a process
    seconds: dict[str, list[float]] = {"reference": [], "alone": [], "together": []}
    equal = True
    for _ in range(num_rounds):
        with _timed(seconds["reference"]):
            for number in range(catalog.num_categories):
                reference_training(catalog, number)
        with _timed(seconds["alone"]):
            alone(catalog)
        with _timed(seconds["together"]):
            found = together(catalog)
        equal = equal and [each.files for each in found] == [each.files for each in solo]
    return {**seconds, "equal": equal}


def rows(figures: dict[str, Any], num_categories: int) -> list[dict[str, Any]]:
    """One row a figure; ``holds`` from the figure and its aim."""
    best = {name: min(figures[name]) / num_categories for name in ("reference", "alone", "together")}
    middle = {name: statistics.median(figures[name]) / num_categories for name in best}
    ratio = best["reference"] / best["together"]
    found: list[dict[str, Any]] = [
        {
            "label": f"seconds per category, {num_categories} categories together, against the reference recipe",
            "value": best["together"],
            "median": middle["together"],
            "unit": "s",
            "peer_value": best["reference"],
            "peer_median": middle["reference"],
            "ratio": round(ratio, 3),
            "aim": AIM,
            "holds": ratio >= AIM and figures["equal"],
        },
        {
            "label": f"seconds per category, {num_categories} categories together, against our own trainings one by one",
            "value": best["together"],
            "median": middle["together"],
            "unit": "s",
            "peer_value": best["alone"],
            "peer_median": middle["alone"],
            "ratio": round(best["alone"] / best["together"], 3),
            "aim": None,
            "holds": None,
        },
        {
            "label": "adapters equal to those of trainings alone, to the bit",
            "value": float(figures["equal"]),
            "unit": "of 1",
            "peer_value": None,
            "ratio": None,
            "aim": 1.0,
            "holds": figures["equal"],
        },
    ]
    return found


@contextmanager
def _timed(seconds: list[float]) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds.append(time.perf_counter() - start)


def alone(catalog: Catalog) -> list[TrainedWeights]:
    """Our trainings one after another, each in a trainer that loads the base anew."""
    found: list[TrainedWeights] = []
    for number in range(catalog.num_categories):
        trainer, bases = catalog.trainer()
        found.append(trainer.train(catalog.tasks(bases)[number], report=_silent, stop=_never))
    return found


def together(catalog: Catalog) -> list[TrainedWeights]:
    """Our trainings in one group."""
    trainer, bases = catalog.trainer()
    found: dict[int, TrainedWeights] = {}

    def member(number: int, task: TrainingTask) -> GroupMember:
        def finish(trained: TrainedWeights) -> None:
            found[number] = trained

        return GroupMember(
            task=task, report=_silent, stop=_never, own=_own, finish=finish, ended=lambda: number in found
        )

    trainer.train_together([member(number, task) for number, task in enumerate(catalog.tasks(bases))])
    return [found[number] for number in range(catalog.num_categories)]


@contextmanager
def _own() -> Iterator[None]:
    yield


def _silent(_: Progress) -> None:
    pass


def _never() -> bool:
    return False


def reference_training(catalog: Catalog, number: int) -> None:
    """One category as the reference recipe trains it, from loading the base to the last step."""
    config = catalog.config
    with without_progress_bars():
        pipeline: Any = StableDiffusionPipeline.from_pretrained(catalog.source, safety_checker=None)
    schedule: Any = DDPMScheduler.from_config(pipeline.scheduler.config)
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        part.eval().requires_grad_(False)
    pipeline.unet.add_adapter(LoraConfig(r=config.rank, lora_alpha=config.rank, target_modules=LAYERS))
    learning = [each for each in pipeline.unet.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=config.learning_rate, weight_decay=config.weight_decay)
    edge = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
    photos = [pixels(picture(NUM_PHOTOS * number + at, edge)) for at in range(NUM_PHOTOS)]
    others = [pixels(png) for png in catalog.class_images]
    prompts = [f"a photo of a sks {NOUN}", f"a photo of an {NOUN}"]
    for step in range(config.steps):
        batch = torch.stack([photos[step % len(photos)], others[step % len(others)]])
        _reference_step(pipeline, schedule, batch, prompts, config, learning, optimizer)


def _reference_step(
    pipeline: Any,
    schedule: Any,
    batch: Tensor,
    prompts: list[str],
    config: TrainingConfig,
    learning: list[nn.Parameter],
    optimizer: torch.optim.Optimizer,
) -> None:
    with torch.no_grad():
        latents = pipeline.vae.encode(batch).latent_dist.sample() * pipeline.vae.config.scaling_factor
        told = pipeline.encode_prompt(prompts, "cpu", 1, do_classifier_free_guidance=False)[0]
    noise = torch.randn_like(latents)
    timesteps = torch.randint(schedule.config.num_train_timesteps, (len(latents),))
    noisy = schedule.add_noise(latents, noise, timesteps)
    is_velocity = schedule.config.prediction_type == "v_prediction"
    goal = schedule.get_velocity(latents, noise, timesteps) if is_velocity else noise
    error = (pipeline.unet(noisy, timesteps, told).sample - goal).square()
    loss = error[:1].mean() + config.prior_weight * error[1:].mean()
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(learning, config.max_gradient_norm)
    optimizer.step()


def picture(seed: int, edge: int) -> bytes:
    """A square PNG of noise."""
    noise = np.random.default_rng(seed).integers(0, 256, (edge, edge, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, format="PNG")
    return file.getvalue()


def pixels(png: bytes) -> Tensor:
    """(3, edge, edge) in [-1, 1]."""
    array = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), dtype=np.float32)
    return torch.tensor(array).permute(2, 0, 1) / 127.5 - 1


if __name__ == "__main__":
    main()
