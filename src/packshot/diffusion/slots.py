"""Several trainings in one base: each slot's rows of a batch pass through its own layers. Knows no family and no method.

A frozen layer sees the rows of all slots at once, and a slot's adapter adds to its rows alone. Some layers are evaluated
for every slot apart, for there the order in which a CPU's kernels sum depends on how many rows there are, and a slot's
results would differ in their last bits from those of a training alone: layers that see one row per picture (time steps,
pooled prompts), convolutions of single pixels, and all layers where a slot has a single row. See docs/decisions/0009.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from packshot.diffusion.protocols import Addition, Attachment, Family


class Layout:
    """Whose the rows of the batch are that is in the base: (slot, number of rows), in order."""

    def __init__(self) -> None:
        self.shares: Sequence[tuple[int, int]] = ()

    @contextmanager
    def of(self, shares: Sequence[tuple[int, int]]) -> Iterator[None]:
        """Hold while the context lasts."""
        before, self.shares = self.shares, shares
        try:
            yield
        finally:
            self.shares = before


@dataclass(frozen=True, kw_only=True)
class OwnLayer:
    """A slot's layer before a frozen one; ``addition`` as ``Attachment.addition_of`` gives it."""

    module: nn.Module
    addition: Addition | None


class BySlot(nn.Module):
    """A frozen layer, with the layers that slots have before it."""

    def __init__(self, frozen: nn.Module, own: Mapping[int, OwnLayer], layout: Layout) -> None:
        super().__init__()
        self.frozen = frozen
        self._own = own  # a mapping, so that the slots' parameters are none of the base's
        self._layout = layout

    @property
    def weight(self) -> Tensor:
        """The frozen layer's, which some models ask for its kind of floats."""
        weight = self.frozen.weight
        assert isinstance(weight, Tensor)
        return weight

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs of all slots, first dimension the rows of the batch, to outputs."""
        shares = self._layout.shares
        assert sum(rows for _, rows in shares) == len(inputs), "every row of the batch belongs to a slot"
        if len(shares) == 1:
            return self._of(shares[0][0])(inputs)
        sizes = [rows for _, rows in shares]
        if self._depends_on_rows(inputs) or not all(self._adds(slot) for slot, _ in shares):
            first = zip(shares, inputs.split(sizes), strict=True)
            results = torch.cat(
                [(self.frozen if self._adds(slot) else self._of(slot))(part) for (slot, _), part in first]
            )
        else:
            results = self.frozen(inputs)
        if not any(slot in self._own for slot, _ in shares):
            return results
        # Split anew, after the frozen layer: gradients are then summed in the order of a training alone.
        parts = zip(shares, inputs.split(sizes), results.split(sizes), strict=True)
        return torch.cat([self._added(slot, part, result) for (slot, _), part, result in parts])

    def _of(self, slot: int) -> nn.Module:
        return self._own[slot].module if slot in self._own else self.frozen

    def _adds(self, slot: int) -> bool:
        return slot not in self._own or self._own[slot].addition is not None

    def _added(self, slot: int, inputs: Tensor, result: Tensor) -> Tensor:
        own = self._own.get(slot)
        if own is None or own.addition is None:
            return result
        return (result + own.addition(inputs)).to(result.dtype)

    def _depends_on_rows(self, inputs: Tensor) -> bool:
        single = isinstance(self.frozen, nn.Conv2d) and self.frozen.kernel_size == (1, 1)
        return single or inputs.dim() == 2 or any(rows == 1 for _, rows in self._layout.shares)


def attached(base: Family, attach: Callable[[], Attachment]) -> tuple[Attachment, dict[tuple[str, str], OwnLayer]]:
    """Attach and take out again; returns what learns, and the layers that were put in, by component and place."""
    before = {component: dict(module.named_modules()) for component, module in _components(base).items()}
    attachment = attach()
    try:
        layers = {
            (component, place): OwnLayer(module=layer, addition=attachment.addition_of(layer))
            for component, module in _components(base).items()
            for place, layer in module.named_modules()
            if place in before[component] and layer is not before[component][place]
        }
    finally:
        attachment.detach()
    return attachment, layers


@contextmanager
def put_in(base: Family, own: Sequence[Mapping[tuple[str, str], OwnLayer]], layout: Layout) -> Iterator[None]:
    """Put the layers of all slots into the base while the context lasts, slot by its place in ``own``."""
    frozen: list[tuple[nn.Module, str, nn.Module]] = []
    for component, module in _components(base).items():
        for place, layer in list(module.named_modules()):
            of_slots = {
                slot: layers[component, place] for slot, layers in enumerate(own) if (component, place) in layers
            }
            if of_slots or (component == base.prefix and isinstance(layer, nn.Linear | nn.Conv2d)):
                frozen.append((module, place, layer))
                module.set_submodule(place, BySlot(layer, of_slots, layout))
    try:
        yield
    finally:
        for module, place, layer in frozen:
            module.set_submodule(place, layer)


def _components(base: Family) -> dict[str, nn.Module]:
    return {base.prefix: base.denoiser, **base.text_encoders}
