"""Adapters of many fine-tunes beside one frozen denoiser, each row of a batch with its own. Knows no family, no method.

Every adapted layer has slabs whose rows are *ranks*. An adapter of rank r occupies any r of them, the same in all
layers, so adapters of every rank lie side by side without padding. Loading is a copy of r rows a layer; activating is a
list of row numbers; the rows that a batch needs are gathered, once for as long as it stays the same, and multiplied in one
batched product. Row 0 is all zeros: a picture without an adapter reads it.

The denoiser itself never changes: a layer gets a hook while ``rows`` lasts, and only where a row of the batch needs it.
"""

import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import nn

from packshot.diffusion.adapted_layers import (
    Hook,
    LayerAdapter,
    LowRank,
    LowRankLayer,
    Plan,
    Rewriter,
    RewriterLayer,
    bytes_of,
    bytes_of_rank,
    rank_of,
    takes_adapters,
)
from packshot.diffusion.tallies import EngineTally

__all__ = ["AdapterBank", "LayerAdapter", "LowRank", "Rewriter", "bytes_of", "rank_of"]

AdaptedLayer = LowRankLayer | RewriterLayer


@dataclass(kw_only=True)
class _Resident:
    """An adapter in the slabs. ``num_uses`` counts who must not lose it."""

    ranks: list[int]
    layers: tuple[AdaptedLayer, ...]
    num_uses: int = 0


class AdapterBank:
    """The adapters that stand beside one denoiser, at most ``num_ranks`` ranks of them together.

    ``acquire`` gives an adapter's slot, ``rows`` lets each row of the next batches use one. Slot 0 is no adapter. An
    adapter that nobody holds gives way to others, the one that was not used for the longest time first. ``tally`` counts
    who found its adapter loaded.
    """

    def __init__(self, denoiser: nn.Module, *, num_ranks: int, tally: EngineTally | None = None) -> None:
        self.num_ranks = num_ranks
        self._tally = tally or EngineTally()
        self._modules = dict(denoiser.named_modules())
        self._device = next(denoiser.parameters()).device
        self._layers: dict[tuple[str, type[LayerAdapter]], AdaptedLayer] = {}
        self._free = list(range(num_ranks, 0, -1))
        self._resident: dict[int, _Resident] = {}
        self._slots: OrderedDict[str, int] = OrderedDict()  # the one that was used last at the end
        self._planned: tuple[tuple[int, ...], list[Hook]] | None = None  # a batch often stays the same for steps

    @property
    def num_bytes(self) -> int:
        """What the slabs take: those of a layer are made, whole, when its first adapter is loaded."""
        return sum(layer.num_bytes for layer in self._layers.values())

    @property
    def max_bytes(self) -> int:
        """What the slabs can take at most, with adapters of every kind on every layer."""
        plain = [module for module in self._modules.values() if takes_adapters(module)]
        return (self.num_ranks + 1) * sum(bytes_of_rank(module) for module in plain)

    @property
    def resident(self) -> tuple[str, ...]:
        """The keys of the adapters that are loaded, the one that was used last at the end."""
        return tuple(self._slots)

    def takes(self, adapters: Mapping[str, LayerAdapter]) -> bool:
        """Whether they can ever be loaded: not too many ranks, and beside layers that they can be added to."""
        return rank_of(adapters) <= self.num_ranks and all(takes_adapters(self._modules[name]) for name in adapters)

    def acquire(self, key: str, adapters: Mapping[str, LayerAdapter]) -> int | None:
        """The slot of ``adapters``, which stays theirs until ``release``; None while others hold too many ranks.

        They are loaded where no adapter of this ``key`` is resident, and told by the key alone where one is.
        """
        assert self.takes(adapters), "asked for before"
        if not adapters:
            return 0
        slot = self._slots.get(key)
        if slot is None:
            if not self._make_room(rank_of(adapters)):
                return None
            slot = self._load(key, adapters)
            self._tally.miss()
        else:
            self._tally.hit()
        self._slots.move_to_end(key)
        self._resident[slot].num_uses += 1
        return slot

    def release(self, slot: int) -> None:
        """Undo one ``acquire``; the adapter stays resident until its ranks are needed."""
        if slot:
            self._resident[slot].num_uses -= 1

    @contextmanager
    def rows(self, slots: Sequence[int]) -> Iterator[None]:
        """While the context lasts row i of every batch has the adapter in ``slots[i]``.

        Rows of one slot are best neighbours, and those of slot 0 the first: then nothing is gathered twice.
        """
        wanted = tuple(slots)
        if self._planned is None or self._planned[0] != wanted:
            self._planned = wanted, list(self._hooks(wanted))
        with ExitStack() as stack:
            for put_on in self._planned[1]:
                stack.callback(put_on().remove)
            yield

    def _hooks(self, slots: Sequence[int]) -> Iterator[Hook]:
        active = dict.fromkeys(slot for slot in slots if slot)
        layers = dict.fromkeys(layer for slot in active for layer in self._resident[slot].layers)
        plans: dict[tuple[int, ...], Plan] = {}
        for layer in layers:
            ranks = tuple(layer.occupied.get(slot, 0) for slot in active)
            if ranks not in plans:
                plans[ranks] = self._plan(slots, dict(zip(active, ranks, strict=True)))
            yield layer.hook(plans[ranks])

    def _plan(self, slots: Sequence[int], ranks: Mapping[int, int]) -> Plan:
        """``ranks`` are those that each slot has in the layers of the plan."""
        adapting = [slot if ranks.get(slot) else 0 for slot in slots]
        places = [place for place, slot in enumerate(adapting) if slot]
        rows = slice(places[0], places[-1] + 1)
        runs = [(slot, len(list(group))) for slot, group in groupby(adapting[rows])]
        length = math.gcd(*(count for _, count in runs))
        of_runs = [slot for slot, count in runs for _ in range(count // length)]
        rank = max(ranks.values())
        chosen = [self._resident[slot].ranks[: ranks[slot]] if slot else [] for slot in of_runs]
        padded = [number for own in chosen for number in own + [0] * (rank - len(own))]
        heads = [own[0] if own else 0 for own in chosen]
        return Plan(
            slots=frozenset(of_runs),
            rows=rows,
            num_runs=len(of_runs),
            rank=rank,
            ranks=torch.tensor(padded, device=self._device),
            heads=torch.tensor(heads, device=self._device),
        )

    def _make_room(self, num_ranks: int) -> bool:
        available = len(self._free)
        leaving: list[str] = []
        for key, slot in self._slots.items():
            if available >= num_ranks:
                break
            if not self._resident[slot].num_uses:
                leaving.append(key)
                available += len(self._resident[slot].ranks)
        if available < num_ranks:
            return False
        for key in leaving:
            self._unload(key)
        return True

    def _load(self, key: str, adapters: Mapping[str, LayerAdapter]) -> int:
        ranks = [self._free.pop() for _ in range(rank_of(adapters))]
        slot = ranks[0]
        numbers = torch.tensor(ranks, device=self._device)
        layers = {name: self._layer(name, type(adapter)) for name, adapter in adapters.items()}
        for name, adapter in adapters.items():
            layers[name].load(slot, numbers[: len(adapter.down)], adapter)  # type: ignore[arg-type]
        self._resident[slot] = _Resident(ranks=ranks, layers=tuple(layers.values()))
        self._planned = None
        self._slots[key] = slot
        return slot

    def _unload(self, key: str) -> None:
        gone = self._resident.pop(slot := self._slots.pop(key))
        self._planned = None
        for layer in gone.layers:
            layer.unload(slot)
        self._free += reversed(gone.ranks)

    def _layer(self, name: str, kind: type[LayerAdapter]) -> AdaptedLayer:
        if (name, kind) not in self._layers:
            module = self._modules[name]
            assert isinstance(module, nn.Linear | nn.Conv2d)
            new = LowRankLayer if kind is LowRank else RewriterLayer
            self._layers[name, kind] = new(module, self.num_ranks)
        return self._layers[name, kind]
