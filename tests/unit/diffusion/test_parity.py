"""The loss curve of every family beside a plain training loop made of diffusers' own parts, which shares no code."""

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixtures_families import FAMILIES, FLOWS, plain_pipeline, quick
from fixtures_pipelines import RESOLUTION, TOKEN, Studio, png, task, train
from peft import LoraConfig
from PIL import Image
from safetensors.torch import load
from torch import Tensor, nn

from packshot.domain.training_choices import Method, Targets
from packshot.ports import TrainingExample, TrainingTask

WIDTH, HEIGHT = 40, 24
CAPTIONS = {"": f"a photo of a {TOKEN} apple", "on grass": f"a photo of a {TOKEN} apple, on grass"}
CLASS_PROMPT = "a photo of an apple"
SEED, BATCH, STEPS, RATE, PRIOR = 5, 2, 20, 1e-4, 0.7


def generator(*name: str | int) -> torch.Generator:
    digest = hashlib.sha256(json.dumps(list(name)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") // 2)


def pick(count: int, step: int, name: str) -> list[int]:
    places = range(step * BATCH, (step + 1) * BATCH)
    orders = {
        place // count: torch.randperm(count, generator=generator(SEED, name, place // count)) for place in places
    }
    return [int(orders[place // count][place % count]) for place in places]


def square(data: bytes) -> Tensor:
    image = Image.open(io.BytesIO(data))
    edge = min(image.size)
    left, top = (image.width - edge) // 2, (image.height - edge) // 2
    box = (left, top, left + edge, top + edge)
    small = image.resize((RESOLUTION, RESOLUTION), Image.Resampling.LANCZOS, box=box)
    return torch.tensor(np.asarray(small, dtype=np.float32)).permute(2, 0, 1) / 127.5 - 1


def teach(pipeline: Any, rows: Mapping[str, Tensor]) -> None:
    """Give every tokenizer the token, and every text encoder its row."""
    for name, row in rows.items():
        tokenizer = getattr(pipeline, name.replace("text_encoder", "tokenizer"))
        tokenizer.add_tokens([TOKEN])
        at = tokenizer.convert_tokens_to_ids(TOKEN)
        table = getattr(pipeline, name).get_input_embeddings().weight.detach()
        taught = nn.Embedding.from_pretrained(torch.cat([table[:at], row, table[at + 1 :]]))
        getattr(pipeline, name).set_input_embeddings(taught)


def encode(pipeline: Any, family: str, prompt: str) -> tuple[Tensor, Tensor | None]:
    if family == "stable-diffusion":
        return pipeline.encode_prompt(prompt, "cpu", 1, False)[0], None
    if family == "stable-diffusion-xl":
        found = pipeline.encode_prompt(prompt, do_classifier_free_guidance=False)
        return found[0], found[2]
    if family == "stable-diffusion-3":
        length = pipeline.tokenizer_3.model_max_length
        found = pipeline.encode_prompt(
            prompt, prompt, prompt, do_classifier_free_guidance=False, max_sequence_length=length
        )
        return found[0], found[2]
    found = pipeline.encode_prompt(prompt, max_sequence_length=pipeline.tokenizer_2.model_max_length)
    return found[0], found[1]


def predict(pipeline: Any, family: str, noisy: Tensor, times: Tensor, told: Tensor, pooled: Any, ids: Tensor) -> Tensor:
    if family == "stable-diffusion":
        return pipeline.unet(noisy, times, told).sample
    if family == "stable-diffusion-xl":
        added = {"text_embeds": pooled, "time_ids": ids}
        return pipeline.unet(noisy, times, told, added_cond_kwargs=added).sample
    if family == "stable-diffusion-3":
        return pipeline.transformer(
            hidden_states=noisy, timestep=times, encoder_hidden_states=told, pooled_projections=pooled
        ).sample
    count, channels, height, width = noisy.shape
    packed = pipeline.transformer(
        hidden_states=pipeline._pack_latents(noisy, count, channels, height, width),
        timestep=times / 1000,
        guidance=torch.ones(count),
        pooled_projections=pooled,
        encoder_hidden_states=told,
        txt_ids=torch.zeros(told.shape[1], 3),
        img_ids=pipeline._prepare_latent_image_ids(count, height // 2, width // 2, "cpu", torch.float32),
    ).sample
    return pipeline._unpack_latents(packed, RESOLUTION, RESOLUTION, pipeline.vae_scale_factor)


def plain_losses(
    pipeline: Any, family: str, of: TrainingTask, class_pngs: list[bytes], learning: list[nn.Parameter]
) -> list[float]:
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    flow = family in FLOWS
    schedule: Any = pipeline.scheduler if flow else DDPMScheduler.from_config(pipeline.scheduler.config)
    prompts = {prompt: encode(pipeline, family, prompt) for prompt in (*CAPTIONS.values(), CLASS_PROMPT)}
    scale, shift = pipeline.vae.config.scaling_factor, getattr(pipeline.vae.config, "shift_factor", None) or 0.0
    optimizer = torch.optim.AdamW(learning, lr=RATE, weight_decay=1e-2)
    edge = RESOLUTION // 2
    losses: list[float] = []
    for step in range(STEPS):
        mine = [of.examples[at] for at in pick(len(of.examples), step, "instances")]
        others = [class_pngs[at] for at in pick(len(class_pngs), step, "class")]
        random = generator(SEED, "step", step)
        torch.rand(2 * BATCH, generator=random)  # caption dropout, which is off
        flips = torch.rand(2 * BATCH, generator=random) < 0.5
        draws, noise = (torch.randn(2 * BATCH, 4, edge, edge, generator=random) for _ in range(2))
        pixels = torch.stack([square(each) for each in [*(each.image for each in mine), *others]])
        pixels = torch.where(flips[:, None, None, None], pixels.flip(-1), pixels)
        with torch.no_grad():
            posterior = pipeline.vae.encode(pixels).latent_dist
        latents = (posterior.mean + posterior.std * draws - shift) * scale
        if flow:
            positions = (torch.sigmoid(torch.randn(2 * BATCH, generator=random)) * 1000).long()
            times, sigmas = schedule.timesteps[positions], schedule.sigmas[positions][:, None, None, None]
            noisy, goal = (1 - sigmas) * latents + sigmas * noise, noise - latents
        else:
            times = torch.randint(1000, (2 * BATCH,), generator=random)
            noisy, goal = schedule.add_noise(latents, noise, times), noise
        told = [prompts[CAPTIONS[each.caption]] for each in mine] + [prompts[CLASS_PROMPT]] * BATCH
        pooled = None if told[0][1] is None else torch.cat([each[1] for each in told])  # type: ignore[misc]
        # 40 x 24 pixels are cut at 8 from the left before 24 become 16.
        ids = torch.tensor(
            [[HEIGHT, WIDTH, 0, 5, RESOLUTION, RESOLUTION]] * BATCH
            + [[RESOLUTION, RESOLUTION, 0, 0] + [RESOLUTION] * 2] * BATCH
        )
        prediction = predict(pipeline, family, noisy, times, torch.cat([each[0] for each in told]), pooled, ids.float())
        error = (prediction - goal) ** 2
        loss = error[:BATCH].mean() + PRIOR * error[BATCH:].mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("method", [Method.LORA, Method.FULL])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_curve_equals_that_of_a_plain_implementation(
    family: str, method: Method, family_studios: dict[str, Studio], tmp_path: Path
) -> None:
    studio = family_studios[family]
    photos = tuple(
        TrainingExample(image=png(number, size=(WIDTH, HEIGHT)), caption=caption, mask=None)
        for number, caption in enumerate([*CAPTIONS, ""])
    )
    config = quick(
        family,
        method=method,
        steps=STEPS,
        seed=SEED,
        batch_size=BATCH,
        learning_rate=RATE,
        targets=Targets.ATTENTION,
        snr_gamma=0.0,
        prior_weight=PRIOR,
    )
    of = task(studio, tmp_path / "run", config=config, photos=photos)
    trained = train(studio, of)
    class_pngs = [path.read_bytes() for path in sorted(of.cachedir.glob("class-images/*/*/*.png"))]

    pipeline = plain_pipeline(studio.folder, family)
    tensors = load(trained.files["weights.safetensors"])
    teach(pipeline, {name.removeprefix("token."): row for name, row in tensors.items() if name.startswith("token.")})
    for part in pipeline.components.values():
        if isinstance(part, nn.Module):
            part.eval().requires_grad_(False)
    denoiser = getattr(pipeline, "unet", None) or pipeline.transformer
    if method is Method.LORA:
        torch.manual_seed(SEED)
        layers = ["to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"]
        denoiser.add_adapter(LoraConfig(r=config.rank, lora_alpha=config.rank, target_modules=layers))
    else:
        denoiser.requires_grad_(True)
    learning = [each for each in denoiser.parameters() if each.requires_grad]
    expected = plain_losses(pipeline, family, of, class_pngs, learning)
    found = [row["loss"] for row in trained.metrics]
    assert found == pytest.approx(expected, rel=1e-6)
    assert max(found) - min(found) > 1e-3
