"""A base of the bundled one's kind: v-prediction, 16 latent channels from an 8-fold autoencoder, 32 tokens."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from fixtures_pipelines import PHRASE, QUICK, Studio, base_state, loaded, save_pipeline, silent, task, train
from PIL import Image
from safetensors.torch import load
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from packshot.domain.generation import SamplingSettings
from packshot.domain.training_choices import Method

CHANNELS, HIDDEN, NUM_TOKENS, RESOLUTION = 16, 192, 32, 128


@pytest.fixture(scope="module")
def bundled_like(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    folder = save_pipeline(tmp_path_factory.mktemp("bundled") / "base", prediction_type="v_prediction")
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", model_max_length=NUM_TOKENS)
    tokenizer.save_pretrained(folder / "tokenizer")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        text = json.loads((folder / "text_encoder" / "config.json").read_text())
        text |= {"hidden_size": HIDDEN, "intermediate_size": HIDDEN, "max_position_embeddings": NUM_TOKENS}
        CLIPTextModel(CLIPTextConfig(**text)).save_pretrained(folder / "text_encoder")
        UNet2DConditionModel(
            sample_size=RESOLUTION // 8,
            in_channels=CHANNELS,
            out_channels=CHANNELS,
            block_out_channels=(8, 16, 16),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=HIDDEN,
            attention_head_dim=cast(Any, (1, 2, 2)),
            norm_num_groups=4,
        ).save_pretrained(folder / "unet")
        AutoencoderKL(
            block_out_channels=cast(Any, (8,) * 4),
            down_block_types=cast(Any, ("DownEncoderBlock2D",) * 4),
            up_block_types=cast(Any, ("UpDecoderBlock2D",) * 4),
            latent_channels=CHANNELS,
            norm_num_groups=4,
            sample_size=RESOLUTION,
        ).save_pretrained(folder / "vae")
    return Studio(folder)


@pytest.mark.parametrize("method", list(Method))
def test_it_is_trained_and_generates(method: Method, bundled_like: Studio, tmp_path: Path) -> None:
    assert bundled_like.base.resolution == RESOLUTION
    before = base_state(bundled_like)
    config = replace(QUICK, steps=2, learning_rate=1e-2, num_class_images=2)
    of = task(bundled_like, tmp_path / "run", config=config, method=method)
    weights = train(bundled_like, of).files["weights.safetensors"]
    assert load(weights)["token.text_encoder"].shape == (1, HIDDEN)
    sampling = SamplingSettings(inference_steps=2)
    tuned, bare = (
        bundled_like.generator.generate(bundled_like.base, each, [f"a {PHRASE}"], sampling, report=silent)
        for each in (loaded(bundled_like, of, weights), None)
    )
    assert tuned != bare
    assert Image.open(io.BytesIO(tuned[0])).size == (RESOLUTION, RESOLUTION)
    assert base_state(bundled_like) == before
