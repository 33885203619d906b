"""More latents for an autoencoder that is trained already: what its pictures miss, beside the latents that it has.

A second, narrower autoencoder joins the first in one ordinary AutoencoderKL, so what a base has learned to draw stays as
it is, to the last bit. Does not know what is trained afterwards, or how long.
"""

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from training.principal import write_principal_encoder

_CHUNK = 32


@torch.no_grad()
def with_details(first: AutoencoderKL, pictures: Tensor, number: int, deviation: float = 1.0) -> AutoencoderKL:
    """``first`` with half as many channels again and ``number`` more latents, "details".

    Details are the principal components of what ``first`` misses of a patch, read from the picture, less what its own
    latents of that place say of them (least squares): uncorrelated with those latents, of mean 0 and of that
    ``deviation``. At first they change nothing in what is decoded. ``pictures`` is (count, 3, height, width) in -1..1.
    """
    parts = [first.encode(each).latent_dist.mean for each in pictures.split(_CHUNK)]
    missed = pictures - torch.cat([first.decode(each).sample for each in parts])
    second = AutoencoderKL.from_config({
        **first.config,
        "block_out_channels": [channels // 2 for channels in first.config.block_out_channels],
        "norm_num_groups": first.config.norm_num_groups // 2,
        "latent_channels": number,
    })  # fmt: skip
    write_principal_encoder(second, missed)
    second.post_quant_conv.weight.copy_(torch.eye(number)[:, :, None, None] / deviation)
    for parameter in (second.post_quant_conv.bias, *second.decoder.conv_out.parameters()):
        parameter.zero_()
    both, old = side_by_side(first, second), first.config.latent_channels
    latents = torch.cat([both.encode(each).latent_dist.mean for each in pictures.split(_CHUNK)])
    known, details = latents.movedim(1, -1).flatten(0, 2).double().split([old, number], 1)
    known = torch.cat([known, torch.ones_like(known[:, :1])], 1)
    said = torch.linalg.lstsq(known, details).solution  # (old + 1, number)
    factor = deviation / (details - known @ said).std(0)
    quant, rows = both.quant_conv, slice(old, old + number)
    weight, bias = quant.weight[:, :, 0, 0].double(), quant.bias.double()
    quant.weight[rows, :, 0, 0] = ((weight[rows] - said[:-1].T @ weight[:old]) * factor[:, None]).float()
    quant.bias[rows] = ((bias[rows] - said[:-1].T @ bias[:old] - said[-1]) * factor).float()
    quant.bias[-number:] += 2 * factor.log().float()
    return both


@torch.no_grad()
def side_by_side(first: AutoencoderKL, second: AutoencoderKL) -> AutoencoderKL:
    """One network of both: its latents are those of ``first``, then those of ``second``; it decodes to their sum."""
    one, other = first.config, second.config
    both = AutoencoderKL.from_config({
        **one,
        "block_out_channels": [sum(each) for each in zip(one.block_out_channels, other.block_out_channels, strict=True)],
        "norm_num_groups": one.norm_num_groups + other.norm_num_groups,
        "latent_channels": one.latent_channels + other.latent_channels,
    })  # fmt: skip
    states = first.state_dict(), second.state_dict()
    state = {name: _joined(name, *(each[name] for each in states)) for name in both.state_dict()}
    means, variances = [], []
    for each, start in ((one.latent_channels, 0), (other.latent_channels, 2 * one.latent_channels)):
        means += range(start, start + each)
        variances += range(start + each, start + 2 * each)
    for name in ("quant_conv.weight", "quant_conv.bias"):
        state[name] = state[name][means + variances]
    both.load_state_dict(state)
    return both.eval()


def _joined(name: str, one: Tensor, other: Tensor) -> Tensor:
    """What both read is written side by side, what both write is added, and nothing else is shared."""
    if name == "decoder.conv_out.bias":
        return one + other
    if one.ndim == 1 or name == "encoder.conv_in.weight":
        return torch.cat([one, other])
    if name == "decoder.conv_out.weight":
        return torch.cat([one, other], 1)
    joined = one.new_zeros(one.shape[0] + other.shape[0], one.shape[1] + other.shape[1], *one.shape[2:])
    joined[: one.shape[0], : one.shape[1]] = one
    joined[one.shape[0] :, one.shape[1] :] = other
    return joined
