"""An encoder of principal components, and an autoencoder with more latents beside its own."""

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from torch.nn import functional

RECIPE = Path(__file__).parents[2] / "recipes" / "embedded"
OLD, NEW, DETAILS = 4, 10, 6


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


def rows(images: torch.Tensor) -> torch.Tensor:
    """(places, channels)"""
    return images.movedim(1, -1).flatten(0, 2).double()


@pytest.fixture
def first() -> AutoencoderKL:
    """One that knows nothing: what it misses is nearly the whole picture."""
    return AutoencoderKL(
        block_out_channels=(16, 32, 64), down_block_types=["DownEncoderBlock2D"] * 3, layers_per_block=1,
        up_block_types=["UpDecoderBlock2D"] * 3, latent_channels=OLD, norm_num_groups=4, mid_block_add_attention=False,
    ).eval()  # fmt: skip


@torch.no_grad()
def test_latents_are_the_principal_components_of_patches(autoencoder: AutoencoderKL) -> None:
    latents = rows(autoencoder.encode(pictures()).latent_dist.mean)
    torch.testing.assert_close(latents.mean(0), torch.zeros(NEW).double(), atol=0.02, rtol=0)
    torch.testing.assert_close(latents.T.cov(), torch.eye(NEW).double(), atol=0.05, rtol=0)
    patches = rows(functional.pixel_unshuffle(pictures(), 4))
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
def test_details_say_what_the_first_latents_miss_and_leave_those_alone(first: AutoencoderKL) -> None:
    from training.details import with_details

    both = with_details(first, pictures(), DETAILS, deviation=0.5).eval()
    mean = first.encode(pictures()).latent_dist.mean
    latents, decoded = both.encode(pictures()).latent_dist.mean, first.decode(mean).sample
    torch.testing.assert_close(latents[:, :OLD], mean)
    torch.testing.assert_close(both.decode(latents).sample, decoded)
    details = rows(latents)[:, OLD:]
    torch.testing.assert_close(details.mean(0), torch.zeros(DETAILS).double(), atol=1e-3, rtol=0)
    torch.testing.assert_close(details.std(0), torch.full((DETAILS,), 0.5).double(), atol=1e-3, rtol=0)
    shared = torch.cat([rows(mean), details], 1).T.corrcoef()[:OLD, OLD:]
    assert shared.abs().max() < 1e-3
    weight = both.quant_conv.weight[OLD : OLD + DETAILS, 2 * OLD :, 0, 0].double()
    told = rows(details_of(both, pictures()) - details_of(both, decoded)) @ weight.T
    missed = rows(functional.pixel_unshuffle(pictures() - decoded, 4))
    left = missed - told @ torch.linalg.lstsq(told, missed).solution
    least = torch.linalg.eigvalsh(missed.T @ missed)[:-DETAILS].sum()
    assert least <= left.square().sum() <= 1.2 * least


def details_of(both: AutoencoderKL, images: torch.Tensor) -> torch.Tensor:
    """What the encoder's last convolution says of the details, before the first latents' share is taken off."""
    found: list[torch.Tensor] = []
    with both.encoder.conv_out.register_forward_hook(lambda *called: found.append(called[2])):
        both.encode(images)
    return found[0][:, 2 * OLD :]


@torch.no_grad()
def test_two_autoencoders_side_by_side_decode_to_their_sum(first: AutoencoderKL) -> None:
    from training.details import side_by_side

    second = AutoencoderKL.from_config({**first.config, "block_out_channels": (8, 16, 32), "norm_num_groups": 2,
                                        "latent_channels": 3}).eval()  # fmt: skip
    posteriors = [each.encode(pictures()).latent_dist for each in (first, second)]
    both = side_by_side(first, second)
    posterior = both.encode(pictures()).latent_dist
    for part in ("mean", "logvar"):
        torch.testing.assert_close(getattr(posterior, part), torch.cat([getattr(each, part) for each in posteriors], 1))
    total = sum(each.decode(own.mean).sample for each, own in zip((first, second), posteriors, strict=True))
    torch.testing.assert_close(both.decode(posterior.mean).sample, total)
