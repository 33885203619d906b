"""More latent channels change neither what an autoencoder decodes nor what a denoiser predicts for the first ones."""

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from fixtures_pipelines import save_pipeline

RECIPE = Path(__file__).parents[2] / "recipes" / "embedded"
OLD, NEW = 4, 10


@pytest.fixture(autouse=True)
def recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(RECIPE)
    torch.manual_seed(0)


@pytest.fixture
def autoencoder(tmp_path: Path) -> AutoencoderKL:
    return AutoencoderKL.from_pretrained(save_pipeline(tmp_path / "base") / "vae").eval()


@torch.no_grad()
def test_new_latents_keep_the_old_ones_and_the_picture(autoencoder: AutoencoderKL) -> None:
    from training.channels import more_latents

    wider, pictures = more_latents(autoencoder, NEW), torch.rand(2, 3, 32, 32) * 2 - 1
    old, new = autoencoder.encode(pictures).latent_dist, wider.encode(pictures).latent_dist
    torch.testing.assert_close(new.mean[:, :OLD], old.mean)
    torch.testing.assert_close(new.logvar[:, :OLD], old.logvar)
    assert new.mean[:, OLD:].std() > 0.0
    torch.testing.assert_close(wider.decode(new.mean).sample, autoencoder.decode(old.mean).sample)


@torch.no_grad()
def test_turned_latents_mean_what_the_old_ones_did_and_decode_alike(autoencoder: AutoencoderKL) -> None:
    from training.channels import keep_meaning, more_latents

    def places(model: AutoencoderKL) -> torch.Tensor:
        return model.encode(pictures).latent_dist.mean.movedim(1, -1).flatten(0, 2)

    wider, pictures = more_latents(autoencoder, NEW), torch.rand(40, 3, 32, 32) * 2 - 1
    old = places(autoencoder)
    mixed = torch.randn(NEW, NEW)  # training may have turned the latents in any way
    wider.quant_conv.weight[:NEW] = torch.einsum("ij,jkhw->ikhw", mixed, wider.quant_conv.weight[:NEW])
    wider.quant_conv.bias[:NEW] = mixed @ wider.quant_conv.bias[:NEW]
    before = wider.decode(wider.encode(pictures).latent_dist.mean).sample
    assert keep_meaning(wider, old, places(wider), detail_scale=0.5) == pytest.approx(1.0, abs=1e-4)
    turned = places(wider)
    torch.testing.assert_close(turned[:, :OLD], old, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(turned[:, OLD:].T.cov(correction=0), 0.25 * torch.eye(NEW - OLD), atol=1e-2, rtol=0)
    torch.testing.assert_close(wider.decode(wider.encode(pictures).latent_dist.mean).sample, before, atol=1e-3, rtol=0)


@torch.no_grad()
def test_a_wider_denoiser_predicts_as_before_and_nothing_of_the_new_channels(tmp_path: Path) -> None:
    from training.channels import more_channels

    unet = UNet2DConditionModel.from_pretrained(save_pipeline(tmp_path / "base") / "unet").eval()
    wider = more_channels(unet, NEW).eval()
    latents, states = torch.randn(2, NEW, 8, 8), torch.randn(2, 5, unet.config.cross_attention_dim)
    predicted = wider(latents, 7, states).sample
    torch.testing.assert_close(predicted[:, :OLD], unet(latents[:, :OLD], 7, states).sample)
    assert not predicted[:, OLD:].any()
