"""The principal components of patches, written into the encoder of an AutoencoderKL; its decoder alone has to learn then.

Components of 2 x 2 places, one halving after another, as many of them as there are channels. Does not know what decodes.
"""

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional

CONSTANT = 500.0  # beside latents of deviation 1 to 10: a group's norm then hardly depends on the picture
LOG_VARIANCE = -8.0  # of the posterior


@torch.no_grad()
def write_principal_encoder(autoencoder: AutoencoderKL, pictures: Tensor) -> None:
    """Make the encoder a linear map whose latents, of ``pictures``, are uncorrelated with mean 0 and deviation 1.

    ``pictures`` is (count, 3, height, width) in -1..1. ResNets add nothing, so what comes in passes through their
    shortcuts. At the end the norm meets each latent with both signs beside constants that dwarf them, which makes it a
    constant factor, and SiLU(z) - SiLU(-z) = z. Encoder and quantisation are frozen.

    Raises:
        ValueError: the channels of the last block are too few.
    """
    encoder, latents = autoencoder.encoder, autoencoder.config.latent_channels
    for parameter in (*encoder.parameters(), *autoencoder.quant_conv.parameters()):
        parameter.zero_().requires_grad_(False)
    colours = pictures.shape[1]
    encoder.conv_in.weight[:colours, :, 1, 1] = torch.eye(colours)
    features, blocks = pictures, list(encoder.down_blocks)
    for number, block in enumerate(blocks[:-1]):
        last = number == len(blocks) - 2
        conv = block.downsamplers[0].conv
        places = functional.pixel_unshuffle(features, 2)
        limit = latents if last else conv.out_channels
        mean, basis = components(places, limit, whiten=last)
        conv.weight[: basis.shape[1], : features.shape[1], :2, :2] = basis.T.unflatten(1, (-1, 2, 2))
        conv.bias[: basis.shape[1]] = -mean @ basis
        features = torch.einsum("nchw,ck->nkhw", places - mean[:, None, None], basis)
        if shortcut := blocks[number + 1].resnets[0].conv_shortcut:
            kept = torch.arange(basis.shape[1])
            shortcut.weight[kept, kept] = 1
    _end(autoencoder, latents)


def components(places: Tensor, number: int, *, whiten: bool) -> tuple[Tensor, Tensor]:
    """Mean (channels) and basis (channels, number) of ``places`` (count, channels, height, width), most variance first.

    Nothing is turned where all of them are kept, unless ``whiten`` asks for deviations of 1.
    """
    channels = places.shape[1]
    if number >= channels and not whiten:
        return torch.zeros(channels), torch.eye(channels)
    rows = places.movedim(1, -1).flatten(0, -2).double()
    values, vectors = torch.linalg.eigh(rows.T.cov())
    values, vectors = values.flip(0)[:number], vectors.flip(1)[:, :number]
    return rows.mean(0).float(), (vectors / values.sqrt() if whiten else vectors).float()


def _end(autoencoder: AutoencoderKL, latents: int) -> None:
    """The last ResNet, the norm, SiLU and the last convolutions: each latent comes out as it came in."""
    encoder = autoencoder.encoder
    shortcut, norm, out = encoder.down_blocks[-1].resnets[0].conv_shortcut, encoder.conv_norm_out, encoder.conv_out
    size, pairs = norm.num_channels // norm.num_groups, -(-latents // norm.num_groups)
    if shortcut is None or 2 + 2 * pairs > size:
        raise ValueError(f"{latents} latents with both signs and two constants do not fit {norm.num_groups} x {size}")
    shortcut.weight.zero_()
    shortcut.bias[::size], shortcut.bias[1::size] = CONSTANT, -CONSTANT
    for latent in range(latents):
        place = latent % norm.num_groups * size + 2 + 2 * (latent // norm.num_groups)
        for channel, sign in ((place, 1), (place + 1, -1)):
            shortcut.weight[channel, latent] = sign
            norm.weight[channel] = ((2 * CONSTANT**2 + 2 * pairs) / size) ** 0.5
            out.weight[latent, channel, 1, 1] = sign
    autoencoder.quant_conv.weight[:latents, :latents, 0, 0] = torch.eye(latents)
    autoencoder.quant_conv.bias[latents:] = LOG_VARIANCE
