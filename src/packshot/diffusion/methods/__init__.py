"""The table of methods: which parameters learn in a base, and how what was learned is put into it again."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from torch import Tensor, nn

from packshot.diffusion.methods import full, hypernetwork, lora, pivotal, textual_inversion
from packshot.diffusion.protocols import TOKEN_PREFIX, Attachment, Family
from packshot.diffusion.weights import WeightsHeader, token_rows
from packshot.domain.errors import IncompatibleFineTune
from packshot.domain.training import Method, TrainingConfig


@dataclass(frozen=True, kw_only=True)
class MethodEntry:
    """``attach`` puts parameters that learn into a base; ``apply`` puts learned ones in and returns how to undo it.

    The rows of the token are in the base already, at both times.
    """

    attach: Callable[[Family, Mapping[str, nn.Parameter], TrainingConfig], Attachment]
    apply: Callable[[Family, WeightsHeader, Mapping[str, Tensor]], Callable[[], None]]


METHODS: dict[Method, MethodEntry] = {
    Method.FULL: MethodEntry(attach=full.attach, apply=full.apply),
    Method.LORA: MethodEntry(attach=lora.attach, apply=lora.apply),
    Method.PIVOTAL: MethodEntry(attach=pivotal.attach, apply=lora.apply),
    Method.TEXTUAL_INVERSION: MethodEntry(attach=textual_inversion.attach, apply=textual_inversion.apply),
    Method.HYPERNETWORK: MethodEntry(attach=hypernetwork.attach, apply=hypernetwork.apply),
}


@contextmanager
def applied(base: Family, header: WeightsHeader, tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """The base with a fine-tune in it, token and all, while the context lasts.

    Raises:
        IncompatibleFineTune: a name or shape that the base does not have, or rows that are missing.
        InvalidConfiguration: the token means something to the base already.
    """
    rows = token_rows(tensors)
    if set(rows) != (set(base.text_encoders) if header.token else set()):
        raise IncompatibleFineTune("the fine-tune has no rows for the text encoders of the base; train it anew")
    parts = (TOKEN_PREFIX, f"{base.prefix}.", *(f"{name}." for name in base.text_encoders))
    for name in tensors:
        if not name.startswith(parts):
            raise IncompatibleFineTune(f"the fine-tune's {name!r} belongs to no part of the base; train it anew")
    with base.with_token(header.token, rows) if header.token else nullcontext():
        take_out = METHODS[header.method].apply(base, header, tensors)
        try:
            yield
        finally:
            take_out()
