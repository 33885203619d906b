"""The table of methods: which parameters learn in a base, and how what was learned is put into it again."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from packshot.diffusion.methods import full, hypernetwork, lora, pivotal, textual_inversion
from packshot.diffusion.protocols import Attachment, Family
from packshot.diffusion.weights import WeightsHeader
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
