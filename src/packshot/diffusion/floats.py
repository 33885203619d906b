"""Which floats a base computes with: 32 bits, or half of them in its layers (torch's autocast). Knows no family.

Autocast shortens the weights of linear layers and convolutions at every pass; weights that nothing changes are kept short
instead, which gives the same numbers for half the memory. Norms and vocabularies stay in 32 bits.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from packshot.domain.training_choices import MixedPrecision

HALVES = {MixedPrecision.BF16: torch.bfloat16, MixedPrecision.FP16: torch.float16}


def resolved(precision: MixedPrecision, device: torch.device) -> MixedPrecision:
    """What ``precision`` stands for on ``device``: itself, unless it is ``auto``."""
    if precision is not MixedPrecision.AUTO:
        return precision
    return MixedPrecision.BF16 if _multiplies_bf16(device.type) else MixedPrecision.NO


@cache
def _multiplies_bf16(device_type: str) -> bool:
    """Whether this machine's devices have instructions for it, so that it is faster than 32 bits."""
    if device_type == "cpu":
        able = torch.cpu.get_capabilities()
        return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
    return device_type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def computing(precision: MixedPrecision, device: torch.device) -> AbstractContextManager[object]:
    """Passes compute with these floats while the context lasts; ``no`` leaves them as they are."""
    half = HALVES.get(resolved(precision, device))
    if half is None:
        return nullcontext()
    autocast = torch.autocast(device.type, dtype=half)
    return _AttentionIn32Bits(autocast) if device.type == "cpu" else autocast


class _AttentionIn32Bits(TorchFunctionMode):
    """``autocast`` on a processor, but for attention: its gradients take many times as long in 16 bits as in 32 there."""

    def __init__(self, autocast: torch.autocast) -> None:
        super().__init__()
        self._autocast = autocast

    def __enter__(self) -> Self:
        self._autocast.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._autocast.__exit__(*error)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = kwargs or {}
        if func is not nn.functional.scaled_dot_product_attention:
            return func(*args, **options)
        with torch.autocast("cpu", enabled=False):
            return func(*map(_in_32_bits, args), **{name: _in_32_bits(each) for name, each in options.items()})


def _in_32_bits(value: object) -> object:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value


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
