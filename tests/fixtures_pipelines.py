"""Tiny Stable Diffusion pipelines with random weights in the diffusers layout, and what a training on them needs."""

import hashlib
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from packshot.diffusion.bases import DiffusersBaseModels
from packshot.diffusion.engine import DiffusersEngine
from packshot.diffusion.generator import DiffusersGenerator
from packshot.diffusion.resident import EngineLimits
from packshot.diffusion.trainer import DiffusersTrainer
from packshot.digests import FileDigests
from packshot.domain.models import BaseModelRef, FineTune
from packshot.domain.training import TrainingConfig
from packshot.domain.training_choices import HorizontalFlip, Method, MixedPrecision
from packshot.ports import LoadedFineTune, Progress, Sample, TrainedWeights, TrainingExample, TrainingTask

RESOLUTION = 16
NUM_TOKENS = 16
TOKEN = "<packshot-0123456789ab>"
PHRASE = f"{TOKEN} apple"


def save_tokenizer(folder: Path) -> CLIPTokenizer:
    letters = [chr(code) for code in range(33, 127)]
    merges = [("a", "p"), ("ap", "p"), ("app", "l"), ("appl", "e</w>"), ("p", "e"), ("pe", "a"), ("pea", "r</w>")]
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges)]
    names = [*pieces, "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {name: number for number, name in enumerate(names)}
    # The signature asks for merges as text, the tokenizer behind it for pairs.
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=cast(Any, merges), model_max_length=NUM_TOKENS)
    tokenizer.save_pretrained(folder)
    return tokenizer


def save_pipeline(folder: Path, *, prediction_type: str = "epsilon", seed: int = 0) -> Path:
    """A pipeline of about 40,000 parameters at 16 x 16 pixels (latents 4 x 8 x 8)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokenizer = save_tokenizer(folder / "tokenizer")
        text = CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=NUM_TOKENS,
            bos_token_id=len(tokenizer) - 2,
            eos_token_id=len(tokenizer) - 1,
            projection_dim=16,
        )
        with without_progress_bars():
            CLIPTextModel(text).save_pretrained(folder / "text_encoder")
        UNet2DConditionModel(
            sample_size=RESOLUTION // 2,
            block_out_channels=(8, 16),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=16,
            attention_head_dim=2,
            norm_num_groups=4,
        ).save_pretrained(folder / "unet")
        AutoencoderKL(
            block_out_channels=cast(Any, (8, 8)),
            down_block_types=cast(Any, ("DownEncoderBlock2D",) * 2),
            up_block_types=cast(Any, ("UpDecoderBlock2D",) * 2),
            latent_channels=4,
            norm_num_groups=4,
            sample_size=RESOLUTION,
        ).save_pretrained(folder / "vae")
    DDPMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=cast(Any, prediction_type),
        steps_offset=1,
        clip_sample=False,
    ).save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "feature_extractor": [None, None],
        "safety_checker": [None, None],
        "requires_safety_checker": False,
        "scheduler": ["diffusers", "DDPMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


@contextmanager
def without_progress_bars() -> Iterator[None]:
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.enable_progress_bar()


def silent(progress: Progress) -> None:
    del progress


def never() -> bool:
    return False


class Studio:
    """Bases, trainer and generator over one embedded folder, as the composition root wires them."""

    def __init__(self, folder: Path, *, precision: MixedPrecision = MixedPrecision.NO, **limits: int) -> None:
        self.folder = folder
        self.bases = DiffusersBaseModels(embedded=lambda: folder, digests=FileDigests(), device="cpu")
        self.engine = DiffusersEngine(self.bases, EngineLimits(**limits), precision=precision)
        self.generator = DiffusersGenerator(self.bases, self.engine)
        self.trainer = DiffusersTrainer(self.bases, self.generator)
        self.base: BaseModelRef = self.bases.describe("embedded")


def png(seed: int, *, size: tuple[int, int] = (20, 18)) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def half_mask(size: tuple[int, int] = (20, 18), product: int = 255) -> bytes:
    """The product fills the left half."""
    pixels = np.zeros((size[1], size[0]), dtype=np.uint8)
    pixels[:, : size[0] // 2] = product
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def examples(count: int = 5, *, mask: bytes | None = None) -> tuple[TrainingExample, ...]:
    captions = ["", "an apple on a", "two apples", "on grass", "apple, warm light"]
    return tuple(
        TrainingExample(image=png(number), caption=captions[number % len(captions)], mask=mask)
        for number in range(count)
    )


QUICK = TrainingConfig(
    steps=6,
    batch_size=2,
    rank=2,
    learning_rate=1e-3,
    token_learning_rate=1e-2,
    num_class_images=3,
    class_inference_steps=2,
    checkpoint_every_steps=4,
    horizontal_flip=HorizontalFlip.ON,
)


def task(
    studio: Studio,
    workdir: Path,
    *,
    config: TrainingConfig = QUICK,
    method: Method | None = None,
    token: str = TOKEN,
    photos: tuple[TrainingExample, ...] | None = None,
    cachedir: Path | None = None,
    validation: tuple[Sample, ...] = (),
) -> TrainingTask:
    return TrainingTask(
        base=studio.base,
        examples=photos if photos is not None else examples(),
        class_noun="apple",
        token=token,
        trained_phrase=f"{token} apple",
        config=replace(config, method=method) if method else config,
        workdir=workdir,
        cachedir=cachedir or workdir.parent / "cache",
        validation=validation,
    )


def train(studio: Studio, of: TrainingTask) -> TrainedWeights:
    return studio.trainer.train(of, report=silent, stop=never)


def loaded(studio: Studio, of: TrainingTask, weights: bytes) -> LoadedFineTune:
    record = FineTune(
        id="ft_1",
        category_id="cat_1",
        version=1,
        training_run_id="run_1",
        base_id=studio.base.id,
        method=of.config.method,
        token=of.token,
        trained_phrase=of.trained_phrase,
        artifacts=(),
        code_revision="0.1.0",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    return held(record, weights)


def held(record: FineTune, weights: bytes) -> LoadedFineTune:
    """A fine-tune whose weights are in memory."""
    return LoadedFineTune(record=record, sha256=hashlib.sha256(weights).hexdigest(), read=lambda: weights)


def base_state(studio: Studio) -> dict[str, bytes]:
    """Everything of the loaded base that a training or a fine-tune could change, as bytes."""
    with studio.bases.borrow(studio.base) as base:
        modules = {"denoiser": base.denoiser, **base.text_encoders}
        state = {
            f"{prefix}.{name}": tensor.numpy().tobytes()
            for prefix, module in modules.items()
            for name, tensor in module.state_dict().items()
        }
        state |= {f"{prefix} modules": repr(module).encode() for prefix, module in modules.items()}
        state |= {
            f"{prefix} learning": str([name for name, each in module.named_parameters() if each.requires_grad]).encode()
            for prefix, module in modules.items()
        }
        with torch.no_grad():
            encoded = base.encode_prompts([f"a {PHRASE}"])
        return state | {name: tensor.numpy().tobytes() for name, tensor in encoded.items()}
