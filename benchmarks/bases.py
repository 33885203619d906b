"""Bases to measure on: the bundled one, and pipelines of random weights in the shape of Stable Diffusion 1.5."""

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from packshot.diffusion.bases import DiffusersBaseModels
from packshot.diffusion.engine import DiffusersEngine
from packshot.diffusion.generator import DiffusersGenerator
from packshot.diffusion.trainer import DiffusersTrainer
from packshot.digests import FileDigests
from packshot.domain.training import TrainingConfig
from packshot.domain.training_prompts import trained_phrase
from packshot.embedded.bundle import bundled_base
from packshot.ports import TrainingExample, TrainingTask

TOKEN = "<packshot-benchmark>"


class Bench:
    """Trainer and generator over one base folder, and a work folder that goes with the context."""

    def __init__(self, folder: Path, work: Path) -> None:
        self.folder, self.work = folder, work
        self.bases = DiffusersBaseModels(embedded=lambda: folder, digests=FileDigests(), device="cpu")
        self.generator = DiffusersGenerator(self.bases, DiffusersEngine(self.bases))
        self.trainer = DiffusersTrainer(self.bases, self.generator)
        self.base = self.bases.describe("embedded")
        self._runs = 0

    def task(self, config: TrainingConfig, photos: int = 12) -> TrainingTask:
        """A training that no other call resumes; class images and latents are shared."""
        self._runs += 1
        examples = tuple(
            TrainingExample(image=noise_png(seed, self.base.resolution), caption="", mask=None)
            for seed in range(photos)
        )
        return TrainingTask(
            base=self.base,
            examples=examples,
            class_noun="apple",
            token=TOKEN,
            trained_phrase=trained_phrase(TOKEN, "apple"),
            config=config,
            workdir=self.work / f"run-{self._runs}",
            cachedir=self.work / "cache",
        )


@contextmanager
def bundled() -> Iterator[Bench]:
    """The bundled base."""
    with TemporaryDirectory() as work:
        yield Bench(bundled_base(), Path(work))


@contextmanager
def shaped_like_sd15(*, divisor: int, resolution: int) -> Iterator[Bench]:
    """Stable Diffusion 1.5 with all widths divided by ``divisor`` and random weights; divisor 1 is its real size."""
    with TemporaryDirectory() as work:
        folder = Path(work) / "base"
        save_sd15(folder, divisor=divisor, resolution=resolution)
        yield Bench(folder, Path(work))


def save_sd15(folder: Path, *, divisor: int, resolution: int) -> None:
    """Write the pipeline of ``shaped_like_sd15``."""
    tokenizer = bundled_base() / "tokenizer"
    torch.manual_seed(0)
    parts = networks(divisor, resolution, vocabulary=len(CLIPTokenizer.from_pretrained(tokenizer)))
    pipeline = StableDiffusionPipeline(
        **cast(Any, parts),
        tokenizer=CLIPTokenizer.from_pretrained(tokenizer),
        scheduler=cast(
            Any,
            DDPMScheduler(
                beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, clip_sample=False
            ),
        ),
        safety_checker=cast(Any, None),
        feature_extractor=cast(Any, None),
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    shutil.rmtree(folder / "tokenizer")
    shutil.copytree(tokenizer, folder / "tokenizer")


def networks(divisor: int, resolution: int, vocabulary: int = 49408) -> dict[str, torch.nn.Module]:
    """Autoencoder, text encoder and denoiser of Stable Diffusion 1.5 (its published configuration), divided.

    Prompts do not grow with pictures: below 512 pixels the text encoder's width falls with the resolution too.
    """
    width = text_width(divisor, resolution)
    return {
        "vae": AutoencoderKL(
            block_out_channels=cast(Any, tuple(channels // divisor for channels in (128, 256, 512, 512))),
            layers_per_block=2,
            latent_channels=4,
            norm_num_groups=32 // divisor,
            sample_size=resolution,
            down_block_types=cast(Any, ("DownEncoderBlock2D",) * 4),
            up_block_types=cast(Any, ("UpDecoderBlock2D",) * 4),
        ),
        "text_encoder": CLIPTextModel(
            CLIPTextConfig(
                vocab_size=vocabulary,
                hidden_size=width,
                intermediate_size=4 * width,
                num_hidden_layers=12,
                num_attention_heads=width // 64 or 1,
                max_position_embeddings=77,
                projection_dim=width,
            )
        ),
        "unet": UNet2DConditionModel(
            sample_size=resolution // 8,
            block_out_channels=tuple(channels // divisor for channels in (320, 640, 1280, 1280)),
            layers_per_block=2,
            cross_attention_dim=width,
            attention_head_dim=8 // divisor,
            norm_num_groups=32 // divisor,
        ),
    }


def text_width(divisor: int, resolution: int) -> int:
    """Width of the text encoder of ``networks``."""
    return 768 * resolution // (512 * divisor)


def noise_png(seed: int, edge: int) -> bytes:
    """A photo that takes as long as any other."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (edge, edge, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()
