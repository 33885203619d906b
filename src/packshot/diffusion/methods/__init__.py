"""The table of methods: which parameters learn in a base, and how what was learned is put into it again."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from torch import Tensor, nn

from packshot.diffusion.adapters import LayerAdapter
from packshot.diffusion.methods import full, hypernetwork, lora, pivotal, textual_inversion
from packshot.diffusion.protocols import TOKEN_PREFIX, Attachment, Family
from packshot.diffusion.weights import WeightsHeader, token_rows
from packshot.domain.errors import IncompatibleFineTune
from packshot.domain.training import TrainingConfig
from packshot.domain.training_choices import Method


@dataclass(frozen=True, kw_only=True)
class MethodEntry:
    """``attach`` puts parameters that learn into a base; ``apply`` puts learned ones in and returns how to undo it.

    The rows of the token are in the base already, at both times. ``beside`` gives what was learned in the denoiser as
    adapters of its layers, where it can stand beside the denoiser as it is.
    """

    attach: Callable[[Family, Mapping[str, nn.Parameter], TrainingConfig], Attachment]
    apply: Callable[[Family, WeightsHeader, Mapping[str, Tensor]], Callable[[], None]]
    beside: Callable[[Family, WeightsHeader, Mapping[str, Tensor]], dict[str, LayerAdapter]] | None


METHODS: dict[Method, MethodEntry] = {
    Method.FULL: MethodEntry(attach=full.attach, apply=full.apply, beside=None),
    Method.LORA: MethodEntry(attach=lora.attach, apply=lora.apply, beside=lora.beside),
    Method.PIVOTAL: MethodEntry(attach=pivotal.attach, apply=lora.apply, beside=lora.beside),
    Method.TEXTUAL_INVERSION: MethodEntry(
        attach=textual_inversion.attach, apply=textual_inversion.apply, beside=textual_inversion.beside
    ),
    Method.HYPERNETWORK: MethodEntry(attach=hypernetwork.attach, apply=hypernetwork.apply, beside=hypernetwork.beside),
}


@contextmanager
def applied(base: Family, header: WeightsHeader, tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """The base with a fine-tune in it, token and all, while the context lasts.

    Raises:
        IncompatibleFineTune: a name or shape that the base does not have, or rows that are missing.
        InvalidConfiguration: the token means something to the base already.
    """
    _check_names(base, header, tensors)
    with base.with_token(header.token, token_rows(tensors)) if header.token else nullcontext():
        take_out = METHODS[header.method].apply(base, header, tensors)
        try:
            yield
        finally:
            take_out()


@contextmanager
def read(base: Family, header: WeightsHeader, tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """The text encoders as a fine-tune has them, token and all, while the context lasts. The denoiser is left alone.

    Raises:
        IncompatibleFineTune, InvalidConfiguration: as ``applied``, for what concerns the text encoders.
    """
    _check_names(base, header, tensors)
    told = {name: tensor for name, tensor in tensors.items() if name.startswith(tuple(_parts(base.text_encoders)))}
    with base.with_token(header.token, token_rows(tensors)) if header.token else nullcontext():
        take_out = METHODS[header.method].apply(base, header, told) if told else lambda: None
        try:
            yield
        finally:
            take_out()


def of_denoiser(base: Family, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of a fine-tune's tensors that belong to the denoiser."""
    return {name: tensor for name, tensor in tensors.items() if name.startswith(f"{base.prefix}.")}


def _check_names(base: Family, header: WeightsHeader, tensors: Mapping[str, Tensor]) -> None:
    if set(token_rows(tensors)) != (set(base.text_encoders) if header.token else set()):
        raise IncompatibleFineTune("the fine-tune has no rows for the text encoders of the base; train it anew")
    parts = (TOKEN_PREFIX, *_parts([base.prefix, *base.text_encoders]))
    for name in tensors:
        if not name.startswith(parts):
            raise IncompatibleFineTune(f"the fine-tune's {name!r} belongs to no part of the base; train it anew")


def _parts(components: Iterable[str]) -> list[str]:
    return [f"{name}." for name in components]
