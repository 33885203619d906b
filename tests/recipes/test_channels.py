"""An encoder of principal components, latents turned to an older meaning, and a denoiser for more of them."""

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from fixtures_pipelines import save_pipeline
from torch.nn import functional

RECIPE = Path(__file__).parents[2] / "recipes" / "embedded"
OLD, NEW = 4, 10


@pytest.fixture(autouse=True)
def recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(RECIPE)
    torch.manual_seed(0)


@pytest.fixture
def autoencoder() -> AutoencoderKL:
    from training.principal import write_principal_encoder

    autoencoder = AutoencoderKL(
        block_out_channels=(12, 24, 48), down_block_types=["DownEncoderBlock2D"] * 3, layers_per_block=1,
        up_block_types=["UpDecoderBlock2D"] * 3, latent_channels=NEW, norm_num_groups=2, mid_block_add_attention=False,
    ).eval()  # fmt: skip
    write_principal_encoder(autoencoder, pictures())
    return autoencoder


def pictures() -> torch.Tensor:
    noise = torch.rand(60, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
    smooth = functional.interpolate(noise, scale_factor=4, mode="bilinear")
    return smooth + 0.1 * torch.rand(smooth.shape, generator=torch.Generator().manual_seed(2))


def places(model: AutoencoderKL) -> torch.Tensor:
    return model.encode(pictures()).latent_dist.mean.movedim(1, -1).flatten(0, 2)


@torch.no_grad()
def test_latents_are_the_principal_components_of_patches(autoencoder: AutoencoderKL) -> None:
    latents = places(autoencoder).double()
    torch.testing.assert_close(latents.mean(0), torch.zeros(NEW).double(), atol=0.02, rtol=0)
    torch.testing.assert_close(latents.T.cov(), torch.eye(NEW).double(), atol=0.05, rtol=0)
    patches = functional.pixel_unshuffle(pictures(), 4).movedim(1, -1).flatten(0, 2).double()
    patches -= patches.mean(0)
    least = torch.linalg.eigvalsh(patches.T.cov())[:-NEW].sum()
    left = patches - latents @ torch.linalg.lstsq(latents, patches).solution
    assert least <= left.T.cov().trace() <= 1.05 * least
    assert not any(parameter.requires_grad for parameter in autoencoder.encoder.parameters())


def test_latents_that_do_not_fit_the_last_block_are_refused() -> None:
    from training.principal import write_principal_encoder

    small = AutoencoderKL(
        block_out_channels=(4, 8), down_block_types=["DownEncoderBlock2D"] * 2, layers_per_block=1,
        up_block_types=["UpDecoderBlock2D"] * 2, latent_channels=4, norm_num_groups=2, mid_block_add_attention=False,
    )  # fmt: skip
    with pytest.raises(ValueError, match="4 latents with both signs"):
        write_principal_encoder(small, pictures())


@torch.no_grad()
def test_turned_latents_mean_what_the_old_ones_did_and_decode_alike(autoencoder: AutoencoderKL) -> None:
    from training.channels import keep_meaning

    before = autoencoder.decode(autoencoder.encode(pictures()).latent_dist.mean).sample
    old = places(autoencoder) @ torch.randn(NEW, OLD)
    assert keep_meaning(autoencoder, old, places(autoencoder), detail_scale=0.5) == pytest.approx(1.0, abs=1e-4)
    turned = places(autoencoder)
    torch.testing.assert_close(turned[:, :OLD], old, atol=1e-2, rtol=1e-2)
    torch.testing.assert_close(turned[:, OLD:].T.cov(correction=0), 0.25 * torch.eye(NEW - OLD), atol=1e-2, rtol=0)
    after = autoencoder.decode(autoencoder.encode(pictures()).latent_dist.mean).sample
    torch.testing.assert_close(after, before, atol=1e-3, rtol=0)


@torch.no_grad()
def test_a_decoder_of_other_latents_is_taken_as_what_they_predict(autoencoder: AutoencoderKL) -> None:
    from training.channels import linear_prediction, take_decoder
    from training.principal import write_principal_encoder

    autoencoder.post_quant_conv.bias.zero_()
    before = autoencoder.decode(autoencoder.encode(pictures()).latent_dist.mean).sample
    wider = AutoencoderKL.from_config({**autoencoder.config, "latent_channels": 14}).eval()
    write_principal_encoder(wider, pictures())
    take_decoder(wider, autoencoder, linear_prediction(places(wider), places(autoencoder)))
    after = wider.decode(wider.encode(pictures()).latent_dist.mean).sample
    torch.testing.assert_close(after, before, atol=2e-2, rtol=0)


@torch.no_grad()
def test_a_wider_denoiser_predicts_as_before_where_the_new_channels_are_empty(tmp_path: Path) -> None:
    from training.channels import more_channels

    unet = UNet2DConditionModel.from_pretrained(save_pipeline(tmp_path / "base") / "unet").eval()
    wider = more_channels(unet, NEW).eval()
    latents = torch.cat([torch.randn(2, OLD, 8, 8), torch.zeros(2, NEW - OLD, 8, 8)], 1)
    states = torch.randn(2, 5, unet.config.cross_attention_dim)
    predicted = wider(latents, 7, states).sample
    torch.testing.assert_close(predicted[:, :OLD], unet(latents[:, :OLD], 7, states).sample)
    assert not predicted[:, OLD:].any()
