"""The loop against a plain implementation of the published objective, which shares no code with it."""

import hashlib
import io
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from fixtures_pipelines import (
    NUM_TOKENS,
    RESOLUTION,
    TOKEN,
    Studio,
    examples,
    half_mask,
    save_pipeline,
    task,
    train,
    without_progress_bars,
)
from peft import LoraConfig
from PIL import Image
from safetensors.torch import load
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from packshot.domain.training import TrainingConfig
from packshot.domain.training_choices import HorizontalFlip, Method, Targets
from packshot.ports import TrainingTask

CONFIG = TrainingConfig(
    method=Method.LORA,
    steps=10,
    batch_size=2,
    rank=2,
    targets=Targets.ATTENTION,
    learning_rate=1e-3,
    caption_dropout=0.2,
    background_weight=0.25,
    prior_weight=0.7,
    num_class_images=3,
    class_inference_steps=2,
    seed=5,
    horizontal_flip=HorizontalFlip.ON,
)
# The captions of fixtures_pipelines.examples with the token in them, written out by hand.
PROMPTS = [
    f"a photo of a {TOKEN} apple",
    f"a {TOKEN} apple on a",
    f"two {TOKEN} apples",
    f"a photo of a {TOKEN} apple, on grass",
    f"{TOKEN} apple, warm light",
]


def generator(*name: str | int) -> torch.Generator:
    digest = hashlib.sha256(json.dumps(list(name)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") // 2)


def pixels(png: bytes) -> Tensor:
    image = Image.open(io.BytesIO(png)).convert("RGB")
    left, top = (image.width - min(image.size)) // 2, (image.height - min(image.size)) // 2
    box = (left, top, left + min(image.size), top + min(image.size))
    array = np.asarray(image.resize((RESOLUTION, RESOLUTION), Image.Resampling.LANCZOS, box=box), dtype=np.float32)
    return torch.tensor(array).permute(2, 0, 1)[None] / 127.5 - 1


@dataclass
class Plain:
    """The parts of the base, loaded by their own libraries."""

    unet: Any
    vae: Any
    schedule: Any
    embeddings: dict[str, Tensor]

    @classmethod
    def load(cls, folder: Path, row: Tensor, prompts: list[str]) -> "Plain":
        with without_progress_bars():
            text = cast(Any, CLIPTextModel.from_pretrained(folder / "text_encoder")).eval()
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        tokenizer.add_tokens([TOKEN])
        table = text.get_input_embeddings().weight.detach()
        text.get_input_embeddings().weight = torch.nn.Parameter(torch.cat([table, row]))
        embeddings: dict[str, Tensor] = {}
        for prompt in prompts:
            ids = tokenizer(
                prompt, padding="max_length", truncation=True, max_length=NUM_TOKENS, return_tensors="pt"
            ).input_ids
            embeddings[prompt] = text(ids)[0].detach()
        return cls(
            unet=cast(Any, UNet2DConditionModel.from_pretrained(folder / "unet")).eval(),
            vae=cast(Any, AutoencoderKL.from_pretrained(folder / "vae")).eval(),
            schedule=DDPMScheduler.from_pretrained(folder / "scheduler"),
            embeddings=embeddings,
        )


def order(count: int, size: int, step: int, name: str, seed: int) -> list[int]:
    places = [step * size + number for number in range(size)]
    return [
        int(torch.randperm(count, generator=generator(seed, name, place // count))[place % count]) for place in places
    ]


def plain_losses(plain: Plain, of: TrainingTask, class_pngs: list[bytes], step: int) -> tuple[Tensor, Tensor, Tensor]:
    config = of.config
    seed, size = config.seed, config.batch_size
    mine = order(len(of.examples), size, step, "instances", seed)
    others = order(len(class_pngs), size, step, "class", seed)
    pictures = [pixels(of.examples[at].image) for at in mine] + [pixels(class_pngs[at]) for at in others]
    prompts = [PROMPTS[at] for at in mine] + ["a photo of an apple"] * size
    edge = RESOLUTION // 2
    random = generator(seed, "step", step)
    drop = torch.rand(2 * size, generator=random)
    flip = torch.rand(2 * size, generator=random)
    draw = torch.randn(2 * size, 4, edge, edge, generator=random)
    noise = torch.randn(2 * size, 4, edge, edge, generator=random)
    times = torch.randint(1000, (2 * size,), generator=random)
    losses: list[Tensor] = []
    for number, picture in enumerate(pictures):
        mirrored = bool(flip[number] < 0.5)
        posterior = plain.vae.encode(picture.flip(-1) if mirrored else picture).latent_dist
        latents = (posterior.mean + posterior.std * draw[number]).detach() * plain.vae.config.scaling_factor
        time, eps = times[number : number + 1], noise[number : number + 1]
        noisy = plain.schedule.add_noise(latents, eps, time)
        kind = plain.schedule.config.prediction_type
        goal = {"epsilon": eps, "v_prediction": plain.schedule.get_velocity(latents, eps, time), "sample": latents}[
            kind
        ]
        dropped = number < size and drop[number] < config.caption_dropout
        prompt = "" if dropped else prompts[number]
        error = (plain.unet(noisy, time, plain.embeddings[prompt]).sample - goal) ** 2
        if number >= size:
            losses.append(error.mean())
            continue
        cells = torch.ones(edge, edge)
        if of.examples[mine[number]].mask is not None:
            # The mask covers the left half of 20 x 18 pixels: 9 of the 18 columns of the middle square.
            cells[:, edge // 2 :] = config.background_weight
            cells = cells.flip(-1) if mirrored else cells
        alpha = plain.schedule.alphas_cumprod[time]
        snr = alpha / (1 - alpha)
        weight = torch.minimum(snr, torch.tensor(config.snr_gamma))
        weight = weight / {"epsilon": snr, "v_prediction": snr + 1, "sample": 1}[kind]
        losses.append(((error * cells).sum() / (4 * cells.sum()) * weight).squeeze())
    instance, prior = torch.stack(losses[:size]).mean(), torch.stack(losses[size:]).mean()
    return instance + config.prior_weight * prior, instance, prior


@pytest.mark.parametrize(
    ("method", "batch_size", "prediction_type"),
    [
        (Method.LORA, 1, "epsilon"),
        (Method.LORA, 3, "epsilon"),
        (Method.FULL, 1, "v_prediction"),
        (Method.LORA, 2, "sample"),
        (Method.FULL, 3, "epsilon"),
    ],
)
def test_losses_and_gradients_equal_a_plain_implementation(
    method: Method, batch_size: int, prediction_type: str, tmp_path: Path
) -> None:
    studio = Studio(save_pipeline(tmp_path / "base", prediction_type=prediction_type))
    masked = (*examples(4, mask=half_mask()), *examples()[4:])
    of = task(studio, tmp_path / "run", config=replace(CONFIG, method=method, batch_size=batch_size), photos=masked)
    trained = train(studio, of)
    class_pngs = [path.read_bytes() for path in sorted(of.cachedir.glob("class-images/*/*/*.png"))]
    assert len(class_pngs) == CONFIG.num_class_images

    tensors = load(trained.files["weights.safetensors"])
    plain = Plain.load(studio.folder, tensors["token.text_encoder"], [*PROMPTS, "a photo of an apple", ""])
    if method is Method.LORA:
        torch.manual_seed(CONFIG.seed)
        attention = ["to_q", "to_k", "to_v", "to_out.0"]
        plain.unet.requires_grad_(False)
        plain.unet.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=attention), adapter_name="plain")
    learning = {name: each for name, each in plain.unet.named_parameters() if each.requires_grad}
    optimizer = torch.optim.AdamW(learning.values(), lr=CONFIG.learning_rate, weight_decay=CONFIG.weight_decay)
    for step, row in enumerate(trained.metrics):
        total, instance, prior = plain_losses(plain, of, class_pngs, step)
        optimizer.zero_grad()
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(list(learning.values()), CONFIG.max_gradient_norm)
        optimizer.step()
        expected = {"loss": total, "instance_loss": instance, "prior_loss": prior, "gradient_norm": norm}
        for name, value in expected.items():
            assert row[name] == pytest.approx(value.item(), rel=1e-5 if name == "gradient_norm" else 1e-6), (step, name)
    for name, parameter in learning.items():
        trained_one = tensors["unet." + name.replace(".plain.", ".")]
        # By norm: Adam turns a rounding error in a gradient near zero into a step of its own.
        assert (trained_one - parameter.detach()).norm() <= 1e-3 * parameter.detach().norm(), name
