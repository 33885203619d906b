"""Which floats a base computes with: 32 bits, or half of them in its layers (torch's autocast). Knows no family.

Autocast shortens the weights of linear layers and convolutions at every pass; weights that nothing changes are kept short
instead, which gives the same numbers for half the memory. Norms and vocabularies stay in 32 bits.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from packshot.domain.training import MixedPrecision

HALVES = {MixedPrecision.BF16: torch.bfloat16, MixedPrecision.FP16: torch.float16}


def computing(precision: MixedPrecision, device: torch.device) -> AbstractContextManager[object]:
    """Passes compute with these floats while the context lasts; ``no`` leaves them as they are."""
    half = HALVES.get(precision)
    return torch.autocast(device.type, dtype=half) if half else nullcontext()


def without_fp16(device: torch.device) -> AbstractContextManager[object]:
    """Passes that would compute in 16-bit floats compute in 32 bits while the context lasts."""
    shorter = torch.is_autocast_enabled(device.type) and torch.get_autocast_dtype(device.type) is torch.float16
    return torch.autocast(device.type, enabled=False) if shorter else nullcontext()


def shorten(module: nn.Module, precision: MixedPrecision) -> None:
    """Keep the weights that passes with ``precision`` would shorten in its floats, for good.

    The others are copied too, so that nothing holds the memory of a file that all were mapped from.
    """
    half = HALVES.get(precision)
    if half:
        for each in module.modules():
            shortened = isinstance(each, nn.Linear | nn.Conv2d)
            for parameter in each.parameters(recurse=False):
                parameter.data = parameter.data.to(half) if shortened else parameter.data.clone()
