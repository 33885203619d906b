"""Adapters of many fine-tunes beside one frozen denoiser, each row of a batch with its own. Knows no family, no method.

Every adapted layer has slabs whose rows are *ranks*: row i holds what one rank reads (``down``) and what it adds
(``up``). An adapter of rank r occupies any r of them, the same in all layers, so adapters of every rank lie side by
side without padding. Loading is a copy of r rows a layer; activating is a list of row numbers; the rows that a batch
needs are gathered and multiplied in one batched product. Rank 0 is all zeros: a picture without an adapter reads it.

The denoiser itself never changes: a layer gets a hook while ``rows`` lasts, and only where a row of the batch needs it.
"""

import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import cast

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class LowRank:
    """What a layer's output has added to it: ``up`` of ``down`` of the input (Hu et al. 2021), times ``rescale``.

    ``down`` is (rank, in) or (rank, in, height, width), ``up`` (rank, out) with the adapter's scale in it. ``rescale``,
    (out,), is DoRA's (Liu et al. 2024): what each output but its bias is multiplied by, after the addition.
    """

    down: Tensor
    up: Tensor
    rescale: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Rewriter:
    """What a layer's input has added to it: a network with one hidden layer of ``width`` silu units.

    ``down`` is (width, in), ``down_bias`` (width,), ``up`` (width, in), ``up_bias`` (in,).
    """

    down: Tensor
    down_bias: Tensor
    up: Tensor
    up_bias: Tensor


LayerAdapter = LowRank | Rewriter


def rank_of(adapters: Mapping[str, LayerAdapter]) -> int:
    """The largest rank, or width, of any layer."""
    return max((len(each.down) for each in adapters.values()), default=0)


def bytes_of(adapters: Mapping[str, LayerAdapter]) -> int:
    """What the tensors of ``adapters`` take."""
    return sum(
        tensor.nbytes for each in adapters.values() for tensor in vars(each).values() if isinstance(tensor, Tensor)
    )


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """Which rows of the batch a layer adapts, and with which ranks: ``num_runs`` of equally many neighbours.

    ``ranks`` (num_runs * rank,) are row numbers in the slabs; ``heads`` (num_runs,) is each adapter's first rank, where
    what it has once a layer is kept.
    """

    rows: slice
    num_runs: int
    rank: int
    ranks: Tensor
    heads: Tensor


class _Layer:
    """The slabs of one layer. ``occupied`` says how many of its ranks each resident adapter uses here."""

    def __init__(self, module: nn.Linear | nn.Conv2d, num_ranks: int) -> None:
        self.module = module
        self.num_ranks = num_ranks
        self.occupied: dict[int, int] = {}
        self.slabs: dict[str, Tensor] = {}

    @property
    def num_bytes(self) -> int:
        return sum(slab.nbytes for slab in self.slabs.values())

    def write(self, name: str, ranks: Tensor, values: Tensor, *, otherwise: float = 0.0) -> None:
        """Copy ``values`` to rows of the slab ``name``, which is made, with ``otherwise`` everywhere, when it is new."""
        if name not in self.slabs:
            with torch.inference_mode(False):
                shape = (self.num_ranks + 1, *values.shape[1:])
                self.slabs[name] = self.module.weight.new_full(shape, otherwise, requires_grad=False)
        self.slabs[name].index_copy_(0, ranks, values.to(self.slabs[name]))

    def gathered(self, name: str, plan: _Plan) -> Tensor:
        """(num_runs, rank, ...): the rows that ``plan`` reads."""
        return self.slabs[name].index_select(0, plan.ranks).unflatten(0, (plan.num_runs, plan.rank))


class _LowRankLayer(_Layer):
    def load(self, ranks: Tensor, adapter: LowRank) -> None:
        self.write("down", ranks, adapter.down)
        self.write("up", ranks, adapter.up)
        if adapter.rescale is not None:
            self.write("rescale", ranks[:1], adapter.rescale[None], otherwise=1.0)
        elif "rescale" in self.slabs:
            self.slabs["rescale"].index_fill_(0, ranks[:1], 1.0)

    def hook(self, plan: _Plan) -> "torch.utils.hooks.RemovableHandle":
        add = self._add_to_linear if isinstance(self.module, nn.Linear) else self._add_to_convolution

        def adapt(_module: nn.Module, inputs: tuple[Tensor], outputs: Tensor) -> None:
            target = outputs[plan.rows]
            add(plan, inputs[0][plan.rows], target)
            if "rescale" in self.slabs:
                self._rescale(plan, target)

        return self.module.register_forward_hook(adapt)

    def _add_to_linear(self, plan: _Plan, inputs: Tensor, outputs: Tensor) -> None:
        down, up = self.gathered("down", plan), self.gathered("up", plan)
        hidden = torch.bmm(inputs.reshape(plan.num_runs, -1, inputs.shape[-1]), down.mT)
        outputs.view(plan.num_runs, -1, outputs.shape[-1]).baddbmm_(hidden, up)

    def _add_to_convolution(self, plan: _Plan, inputs: Tensor, outputs: Tensor) -> None:
        """One convolution with a group a run, then a matrix product a picture."""
        layer = cast(nn.Conv2d, self.module)
        down, up = self.gathered("down", plan), self.gathered("up", plan)
        runs = inputs.unflatten(0, (plan.num_runs, -1)).transpose(0, 1).flatten(1, 2)
        hidden = nn.functional.conv2d(
            runs, down.flatten(0, 1), None, layer.stride, layer.padding, layer.dilation, plan.num_runs
        )
        hidden = hidden.flatten(2).unflatten(1, (plan.num_runs, plan.rank)).transpose(0, 1)
        outputs += torch.matmul(up.mT[:, None], hidden).reshape(outputs.shape)

    def _rescale(self, plan: _Plan, outputs: Tensor) -> None:
        """Multiply everything but the bias."""
        behind = (1, 1) if isinstance(self.module, nn.Conv2d) else ()
        scale = self.slabs["rescale"].index_select(0, plan.heads)
        scale = scale.repeat_interleave(len(outputs) // plan.num_runs, dim=0).unflatten(1, (-1, *behind))
        if not behind:
            scale = scale.view(len(scale), *[1] * (outputs.dim() - 2), -1)
        if self.module.bias is None:
            outputs.mul_(scale)
        else:
            bias = self.module.bias.unflatten(0, (-1, *behind))
            outputs.sub_(bias).mul_(scale).add_(bias)


class _RewriterLayer(_Layer):
    def load(self, ranks: Tensor, adapter: Rewriter) -> None:
        self.write("down", ranks, adapter.down)
        self.write("down_bias", ranks, adapter.down_bias)
        self.write("up", ranks, adapter.up)
        self.write("up_bias", ranks[:1], adapter.up_bias[None])

    def hook(self, plan: _Plan) -> "torch.utils.hooks.RemovableHandle":
        def rewrite(_module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
            told = inputs[0].clone()
            rows = told[plan.rows]
            runs = rows.reshape(plan.num_runs, -1, rows.shape[-1])
            bias = self.slabs["down_bias"].index_select(0, plan.ranks).view(plan.num_runs, 1, plan.rank)
            hidden = nn.functional.silu(torch.baddbmm(bias, runs, self.gathered("down", plan).mT))
            added = torch.baddbmm(
                self.slabs["up_bias"].index_select(0, plan.heads)[:, None], hidden, self.gathered("up", plan)
            )
            rows += added.view(rows.shape)
            return told

        return self.module.register_forward_pre_hook(rewrite)


_Planned = tuple[_LowRankLayer | _RewriterLayer, _Plan]


@dataclass(kw_only=True)
class _Resident:
    """An adapter in the slabs. ``num_uses`` counts who must not lose it."""

    ranks: list[int]
    layers: tuple[_LowRankLayer | _RewriterLayer, ...]
    num_uses: int = 0


class AdapterBank:
    """The adapters that stand beside one denoiser, at most ``num_ranks`` ranks of them together.

    ``acquire`` gives an adapter's slot, ``rows`` lets each row of the next batches use one. Slot 0 is no adapter. An
    adapter that nobody holds gives way to others, the one that was not used for the longest time first.
    """

    def __init__(self, denoiser: nn.Module, *, num_ranks: int) -> None:
        self.num_ranks = num_ranks
        self._modules = dict(denoiser.named_modules())
        self._device = next(denoiser.parameters()).device
        self._layers: dict[tuple[str, type[LayerAdapter]], _LowRankLayer | _RewriterLayer] = {}
        self._free = list(range(num_ranks, 0, -1))
        self._resident: dict[int, _Resident] = {}
        self._slots: OrderedDict[str, int] = OrderedDict()  # the one that was used last at the end
        self._planned: tuple[tuple[int, ...], list[_Planned]] | None = None  # a batch often stays the same for steps

    @property
    def num_bytes(self) -> int:
        """What the slabs take: those of a layer are made, whole, when its first adapter is loaded."""
        return sum(layer.num_bytes for layer in self._layers.values())

    @property
    def max_bytes(self) -> int:
        """What the slabs can take at most, with adapters of every kind on every layer."""
        plain = [module for module in self._modules.values() if _is_plain(module)]
        return (self.num_ranks + 1) * sum(_bytes_of_rank(module) for module in plain)

    @property
    def resident(self) -> tuple[str, ...]:
        """The keys of the adapters that are loaded, the one that was used last at the end."""
        return tuple(self._slots)

    def takes(self, adapters: Mapping[str, LayerAdapter]) -> bool:
        """Whether they can ever be loaded: not too many ranks, and beside layers that they can be added to."""
        return rank_of(adapters) <= self.num_ranks and all(_is_plain(self._modules[name]) for name in adapters)

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
            self._planned = wanted, list(self._plans(wanted))
        with ExitStack() as stack:
            for layer, plan in self._planned[1]:
                stack.callback(layer.hook(plan).remove)
            yield

    def _plans(self, slots: Sequence[int]) -> "Iterator[_Planned]":
        active = dict.fromkeys(slot for slot in slots if slot)
        layers = dict.fromkeys(layer for slot in active for layer in self._resident[slot].layers)
        plans: dict[tuple[int, ...], _Plan] = {}
        for layer in layers:
            ranks = tuple(layer.occupied.get(slot, 0) for slot in active)
            if ranks not in plans:
                plans[ranks] = self._plan(slots, dict(zip(active, ranks, strict=True)))
            yield layer, plans[ranks]

    def _plan(self, slots: Sequence[int], ranks: Mapping[int, int]) -> _Plan:
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
        return _Plan(
            rows=rows,
            num_runs=len(of_runs),
            rank=rank,
            ranks=torch.tensor(padded, device=self._device),
            heads=torch.tensor(heads, device=self._device),
        )

    def _make_room(self, num_ranks: int) -> bool:
        idle = [key for key, slot in self._slots.items() if not self._resident[slot].num_uses]
        available = len(self._free)
        leaving: list[str] = []
        for key in idle:
            if available >= num_ranks:
                break
            leaving.append(key)
            available += len(self._resident[self._slots[key]].ranks)
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
            layers[name].load(numbers[: len(adapter.down)], adapter)  # type: ignore[arg-type]
            layers[name].occupied[slot] = len(adapter.down)
        self._resident[slot] = _Resident(ranks=ranks, layers=tuple(layers.values()))
        self._planned = None
        self._slots[key] = slot
        return slot

    def _unload(self, key: str) -> None:
        gone = self._resident.pop(slot := self._slots.pop(key))
        self._planned = None
        for layer in gone.layers:
            del layer.occupied[slot]
        self._free += reversed(gone.ranks)

    def _layer(self, name: str, kind: type[LayerAdapter]) -> _LowRankLayer | _RewriterLayer:
        if (name, kind) not in self._layers:
            module = self._modules[name]
            assert isinstance(module, nn.Linear | nn.Conv2d)
            new = _LowRankLayer if kind is LowRank else _RewriterLayer
            self._layers[name, kind] = new(module, self.num_ranks)
        return self._layers[name, kind]


def _bytes_of_rank(module: nn.Module) -> int:
    """Of a low-rank adapter with its rescaling, and for linear layers of a rewriter beside it."""
    assert isinstance(module, nn.Linear | nn.Conv2d)
    numbers = module.weight[0].numel() + 2 * len(module.weight)
    if isinstance(module, nn.Linear):
        numbers += 3 * module.in_features + 1
    return numbers * module.weight.itemsize


def _is_plain(module: nn.Module) -> bool:
    """Whether an adapter can stand beside it."""
    if isinstance(module, nn.Conv2d):
        return module.groups == 1 and module.padding_mode == "zeros"
    return isinstance(module, nn.Linear)
