"""A denoiser that is trained already, for more latents than it was trained on.

The first latents go on meaning what they meant (training/details.py), so it draws on as it did. Does not know what is
trained.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional

MEANING = "means.sha256"  # beside an autoencoder: whose latents its first channels are
# ResNets of a network of three levels and one layer a block.
PROJECTING, TAKING_BACK, LAST = "down_blocks.1.resnets.0", "up_blocks.1.resnets.1", "up_blocks.2.resnets.1"
_LIFT = 6.0  # SiLU changes next to nothing beyond


Examples = tuple[Tensor, Tensor, Tensor]  # noisy latents, time steps, encoded prompts


@torch.no_grad()
def more_channels(unet: UNet2DConditionModel, channels: int, examples: Examples) -> UNet2DConditionModel:
    """A copy for so many latents, whose finest level is as wide as the one below.

    The new latents, which should vary less than the noise, pass at once from the first convolution to the last, where
    their norm makes of them what the velocity of such latents mostly is: the noise in them. Of the old latents the copy
    predicts nearly what ``unet`` does; not quite, since its norms have other groups, and a ResNet whose width does not
    change has no projection beside it. What cannot be copied is fitted to what ``unet`` does with ``examples``.

    Raises:
        ValueError: there are not as many new channels as there are new latents.
    """
    config = unet.config
    narrow, width, *deeper = config.block_out_channels
    old = config.in_channels
    if width - narrow < channels - old:
        raise ValueError(f"{channels - old} new latents do not pass through {width - narrow} new channels")
    wider = UNet2DConditionModel.from_config({
        **{key: value for key, value in config.items() if key != "_use_default_values"},  # those would win
        "in_channels": channels, "out_channels": channels, "block_out_channels": [width, width, *deeper],
        "time_embedding_dim": config.time_embedding_dim or 4 * narrow,
    })  # fmt: skip
    new = wider.state_dict()
    for name, value in unet.state_dict().items():
        if name in new:
            new[name].copy_(value if value.shape == new[name].shape else _grown(name, value, new[name], narrow, width))
    wider.time_embedding.linear_1.weight.copy_(_same_times(unet, wider))
    _project_while_halving(unet, wider)
    _pass_on(wider, old, narrow)
    _fit(unet, wider, examples)
    return wider


def _places(name: str, channels: int, narrow: int, width: int) -> Tensor:
    """Where the old channels are among the new: first, but the last ResNet reads its level twice, as it comes and as it was."""
    places = torch.arange(channels)
    if name.startswith(LAST) and channels == 2 * narrow:
        places[narrow:] += width - narrow
    return places


def _grown(name: str, value: Tensor, new: Tensor, narrow: int, width: int) -> Tensor:
    """``value`` among the channels of ``new``, whose old channels read nothing from new ones; new ones stay as they are."""
    grown, rows = new.clone(), _places(name, value.shape[0], narrow, width)
    if value.ndim == 1:
        grown[rows] = value
    else:
        grown[rows] = 0
        grown[rows[:, None], _places(name, value.shape[1], narrow, width)] = value
    return grown


def _same_times(unet: UNet2DConditionModel, wider: UNet2DConditionModel) -> Tensor:
    """The layer that makes of the new sinusoids of a time step what the old layer makes of the old ones."""
    had, have = (each.time_proj(torch.arange(1000.0)).double() for each in (unet, wider))
    wanted = had @ unet.time_embedding.linear_1.weight.double().T
    return torch.linalg.lstsq(have, wanted, driver="gelsd").solution.T.float()


def _project_while_halving(unet: UNet2DConditionModel, wider: UNet2DConditionModel) -> None:
    """The projection that the second level has no more becomes part of the convolution before it; who reads that takes it back."""
    projection = unet.get_submodule(PROJECTING).conv_shortcut
    matrix, shift = projection.weight[:, :, 0, 0], projection.bias
    conv, halving = wider.down_blocks[0].downsamplers[0].conv, unet.down_blocks[0].downsamplers[0].conv
    conv.weight.zero_()[:, : halving.in_channels] = torch.einsum("on,nihw->oihw", matrix, halving.weight)
    conv.bias.copy_(matrix @ halving.bias + shift)
    reader, old = (each.get_submodule(TAKING_BACK).conv_shortcut for each in (wider, unet))
    back = old.weight[:, -matrix.shape[1] :, 0, 0] @ torch.linalg.pinv(matrix)
    reader.weight[:, -matrix.shape[0] :, 0, 0] = back
    reader.bias.copy_(old.bias - back @ shift)


def _pass_on(wider: UNet2DConditionModel, old: int, narrow: int) -> None:
    """Lead the new latents from the first convolution past all else to the last one."""
    latents, width = torch.arange(old, wider.config.in_channels), wider.config.block_out_channels[0]
    carriers, last = torch.arange(narrow, narrow + len(latents)), wider.get_submodule(LAST)
    for layer in (wider.conv_in, last.conv_shortcut, last.conv2):
        layer.weight[narrow:] = 0
        layer.bias[narrow:] = 0
    wider.conv_in.weight[carriers, latents, 1, 1] = 1
    last.conv_shortcut.weight[carriers, width + carriers, 0, 0] = 1
    wider.conv_norm_out.bias[carriers] = _LIFT
    wider.conv_out.weight[latents] = 0
    wider.conv_out.weight[latents, carriers, 1, 1] = 1
    wider.conv_out.bias[latents] = -_LIFT / (1 + math.exp(-_LIFT))


def _fit(unet: UNet2DConditionModel, wider: UNet2DConditionModel, examples: Examples) -> None:
    """Fit norms, and first convolutions of ResNets that read what was projected, to what the old ones give."""
    modules, others = dict(unet.named_modules()), dict(wider.named_modules())
    refitted = (PROJECTING, TAKING_BACK)
    norms = [name for name, each in modules.items() if isinstance(each, nn.GroupNorm)
             and others[name].num_channels != each.num_channels and not name.startswith(refitted)]  # fmt: skip
    narrow, width = (each.config.block_out_channels[0] for each in (unet, wider))
    with _inputs(modules, [*norms, *(f"{name}.norm1" for name in refitted)]) as seen:
        unet(*examples)
    for name in norms:
        given, norm, other = seen[name], modules[name], others[name]
        groups = given.shape[1] * other.num_groups // other.num_channels  # new channels are groups of their own
        got, wanted = functional.group_norm(given, groups, eps=norm.eps), norm(given)
        mean = got.mean((0, 2, 3), keepdim=True)
        factor = ((got - mean) * wanted).mean((0, 2, 3)) / got.var((0, 2, 3), unbiased=False)
        places = _places(name, norm.num_channels, narrow, width)
        other.weight[places], other.bias[places] = factor, wanted.mean((0, 2, 3)) - factor * mean.flatten()
    projection = modules[PROJECTING].conv_shortcut
    for name in refitted:
        given, block, other = seen[f"{name}.norm1"], modules[name], others[name]
        kept = given[:, : -projection.in_channels]
        read = torch.cat([kept, projection(given[:, -projection.in_channels :])], 1)
        nn.init.ones_(other.norm1.weight)
        nn.init.zeros_(other.norm1.bias)
        features = functional.unfold(functional.silu(other.norm1(read)), 3, padding=1).movedim(1, -1).flatten(0, 1)
        wanted = block.conv1(functional.silu(block.norm1(given))).movedim(1, -1).flatten(0, 2)
        solution = _least_squares(features, wanted)
        other.conv1.weight.copy_(solution[:-1].T.unflatten(1, (-1, 3, 3)))
        other.conv1.bias.copy_(solution[-1])


@contextmanager
def _inputs(modules: Mapping[str, nn.Module], names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """What the named modules are called with while the context lasts."""
    seen: dict[str, Tensor] = {}
    hooks = [modules[name].register_forward_pre_hook(lambda _, inputs, name=name: seen.update({name: inputs[0]}))
             for name in names]  # fmt: skip
    yield seen
    for hook in hooks:
        hook.remove()


def _least_squares(known: Tensor, wanted: Tensor, ridge: float = 1e-4) -> Tensor:
    """(known + 1, wanted): the last row is the shift."""
    known = torch.cat([known, torch.ones_like(known[:, :1])], 1).double()
    gram = known.T @ known
    gram += ridge * gram.diagonal().mean() * torch.eye(len(gram))
    return torch.linalg.solve(gram, known.T @ wanted.double()).float()


def weights_digest(folder: Path) -> str:
    """sha256 of a diffusers folder's weights."""
    return hashlib.sha256((folder / "diffusion_pytorch_model.safetensors").read_bytes()).hexdigest()
