"""Implements Compressor: a full fine-tune as its difference from the base, whole in 16 bits or of low rank.

Low rank: the truncated singular value decomposition of each layer's difference, the best approximation of that rank
(Eckart and Young 1936). Only layers that an adapter can stand beside, and that every export has a name for, are kept;
what the others learned counts into the error.
"""

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

from packshot.diffusion.bases import DiffusersBaseModels
from packshot.diffusion.floats import HALVES
from packshot.diffusion.interop import DOWN, UP, Layout
from packshot.diffusion.methods import applied
from packshot.diffusion.methods.full import DELTA
from packshot.diffusion.protocols import TOKEN_PREFIX, Family
from packshot.diffusion.swap import parameter_of
from packshot.diffusion.weights import read_weights, write_weights
from packshot.domain.errors import InvalidInput
from packshot.domain.models import BaseModelRef
from packshot.domain.training_choices import Method, MixedPrecision
from packshot.ports import CompressedWeights, LoadedFineTune


class DiffusersCompressor:
    """Compresses full fine-tunes of bases in the diffusers layout."""

    def __init__(self, bases: DiffusersBaseModels) -> None:
        self._bases = bases

    def compress(
        self, base: BaseModelRef, fine_tune: LoadedFineTune, *, rank: int, delta: MixedPrecision
    ) -> CompressedWeights:
        """The adapter of at most ``rank``, or with a ``delta`` precision every difference in those floats.

        Raises:
            InvalidInput: it is no full fine-tune with its own weights, or a difference is too large for 16-bit floats.
            CorruptArtifact, BaseModelRefused: the weights are damaged, or the base cannot be loaded.
        """
        header, tensors = read_weights(fine_tune.read())
        if header.method is not Method.FULL or any(name.endswith(DELTA) for name in tensors):
            raise InvalidInput(
                f"a {header.method} fine-tune, or one that is compressed, is small already; compress a full one"
            )
        kept = {name: each for name, each in tensors.items() if name.startswith(TOKEN_PREFIX)}
        with self._bases.borrow(base) as loaded:
            changes = {name: each - _base_weight(loaded, name) for name, each in tensors.items() if name not in kept}
            if delta is MixedPrecision.NO:
                layers = {layer for place in Layout(base=loaded, family=header.family).layers for layer in place.layers}
                small, left = _low_rank(changes, layers, rank)
                header = dataclasses.replace(header, method=Method.LORA, rank=rank, alpha=rank)
            else:
                small, left = _shortened(changes, HALVES[delta])
            with applied(loaded, header, kept | small):
                weights = write_weights(header, kept | small)
        return CompressedWeights(method=header.method, weights=weights, relative_error=_ratio(left, changes))


def _low_rank(
    changes: Mapping[str, Tensor], layers: set[str], rank: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Adapters of at most ``rank``, and what they leave out."""
    adapters: dict[str, Tensor] = {}
    left = dict(changes)
    for layer in sorted(layers):
        change = changes.get(f"{layer}.weight")
        if change is None or not change.any():
            continue
        u, s, v = torch.linalg.svd(change.flatten(1).double(), full_matrices=False)
        root = s[:rank].sqrt()
        up, down = (u[:, :rank] * root).float(), (root[:, None] * v[:rank]).float()
        left[f"{layer}.weight"] = change - (up @ down).reshape(change.shape)
        adapters[layer + DOWN] = down.reshape(-1, *change.shape[1:])
        adapters[layer + UP] = up[:, :, None, None] if change.dim() == 4 else up
    return adapters, left


def _shortened(changes: Mapping[str, Tensor], floats: torch.dtype) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The differences in shorter floats, but for those that are zero, and what rounding leaves out."""
    short = {name: change.to(floats) for name, change in changes.items()}
    for name, each in short.items():
        if not each.isfinite().all():
            raise InvalidInput(
                f"a difference of {name!r} is too large for {floats}; use bf16, which reaches as far as 32 bits"
            )
    left = {name: change - short[name].float() for name, change in changes.items()}
    return {name + DELTA: each for name, each in short.items() if each.any()}, left


def _ratio(left: Mapping[str, Tensor], changes: Mapping[str, Tensor]) -> float:
    """Frobenius norm of what is left out, as a share of that of everything that was learned."""
    energies = [sum(each.double().square().sum().item() for each in these.values()) for these in (left, changes)]
    return (energies[0] / energies[1]) ** 0.5 if energies[1] else 0.0


def _base_weight(base: Family, name: str) -> Tensor:
    component, _, parameter = name.partition(".")
    module = base.denoiser if component == base.prefix else base.text_encoders[component]
    return parameter_of(module, parameter).detach().cpu()
