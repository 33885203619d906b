"""Other latents, and more of them, for a UNet that is trained already.

The first channels go on meaning what they meant, so that the base does not start anew. Does not know what is trained.
"""

import hashlib
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor

MEANING = "means.sha256"  # beside an autoencoder: whose latents its first channels are


@torch.no_grad()
def keep_meaning(autoencoder: AutoencoderKL, old: Tensor, new: Tensor, detail_scale: float) -> float:
    """Turn the latent space so that its first channels are what they were, without changing what is decoded.

    They become the least-squares prediction of the ``old`` latents (count, old channels) from the ``new`` ones
    (count, channels) of the same places; the others become uncorrelated with them and among each other, of mean 0 and
    deviation ``detail_scale``. The variance of the posterior becomes its mean, a constant.

    Returns:
        The share of the old latents' variance that the first channels have.
    """
    old, new = old.double(), new.double()
    mean, target = new.mean(0), old.mean(0)
    centred = new - mean
    covariance = centred.T @ centred / len(new)
    predict = linear_prediction(new, old)
    values, vectors = torch.linalg.eigh(covariance)
    root = vectors * values.sqrt() @ vectors.T
    others = torch.linalg.svd(predict @ root, full_matrices=True).Vh[old.shape[1] :]
    turn = torch.cat([predict, detail_scale * torch.linalg.solve(root, others.T).T])
    shift = torch.cat([target, target.new_zeros(len(turn) - len(target))])
    channels = len(turn)
    back, quant, post = torch.linalg.inv(turn), autoencoder.quant_conv, autoencoder.post_quant_conv
    weight, bias = quant.weight[:, :, 0, 0].double(), quant.bias.double()
    variance = turn.square() @ bias[channels:].exp()
    quant.weight[:channels, :, 0, 0] = (turn @ weight[:channels]).float()
    quant.bias[:channels] = (turn @ (bias[:channels] - mean) + shift).float()
    quant.weight[channels:] = 0
    quant.bias[channels:] = variance.log().float()
    decode = post.weight[:, :, 0, 0].double()
    post.bias += (decode @ (mean - back @ shift)).float()
    post.weight[:, :, 0, 0] = (decode @ back).float()
    missed = (centred @ predict.T - (old - target)).square().sum()
    return 1 - (missed / (old - target).square().sum()).item()


def linear_prediction(known: Tensor, wanted: Tensor) -> Tensor:
    """Least-squares matrix (wanted channels, known channels) between the deviations of both (count, channels) from their means."""
    known, wanted = known - known.mean(0), wanted - wanted.mean(0)
    return torch.linalg.lstsq(known, wanted).solution.T


@torch.no_grad()
def take_decoder(autoencoder: AutoencoderKL, other: AutoencoderKL, predict: Tensor) -> None:
    """Make the decoder that of ``other``, fed with what ``predict`` (other's channels, own channels) says of its latents.

    Both have latents of mean 0. At the border of a picture the other's bias is a little wrong.
    """
    state, weight, bias = (
        other.decoder.state_dict(),
        other.post_quant_conv.weight[:, :, 0, 0],
        other.post_quant_conv.bias,
    )
    first = state["conv_in.weight"]
    state["conv_in.weight"] = torch.einsum("onhw,nk->okhw", first, weight @ predict)
    state["conv_in.bias"] = state["conv_in.bias"] + torch.einsum("onhw,n->o", first, bias)
    autoencoder.decoder.load_state_dict(state)
    autoencoder.post_quant_conv.weight.copy_(torch.eye(predict.shape[1])[:, :, None, None])
    autoencoder.post_quant_conv.bias.zero_()


@torch.no_grad()
def more_channels(unet: UNet2DConditionModel, channels: int) -> UNet2DConditionModel:
    """A copy for that many latent channels, of which it predicts nothing yet where they are new."""
    old = unet.config.in_channels
    wider = UNet2DConditionModel.from_config({**unet.config, "in_channels": channels, "out_channels": channels})
    state, narrow = wider.state_dict(), unet.state_dict()
    for name, value in narrow.items():
        if state[name].shape == value.shape:
            state[name].copy_(value)
    state["conv_in.weight"][:, :old] = narrow["conv_in.weight"]
    for name in ("conv_out.weight", "conv_out.bias"):
        state[name].zero_()[:old] = narrow[name]
    return wider


def weights_digest(folder: Path) -> str:
    """sha256 of a diffusers folder's weights."""
    return hashlib.sha256((folder / "diffusion_pytorch_model.safetensors").read_bytes()).hexdigest()
