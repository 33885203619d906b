"""One layer's adapters: their rows in slabs, and what they do to the rows of a batch. Knows no bank and no method.

A slab's row is one *rank*: what it reads (``down``) and what it adds (``up``). What an adapter has once a layer stands
in the row of its first rank.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


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
class Plan:
    """Which rows of the batch a layer adapts, and with which ranks: ``num_runs`` of equally many neighbours.

    ``slots`` are the adapters' own numbers, ``ranks`` (num_runs * rank,) row numbers in the slabs, ``heads`` (num_runs,)
    each adapter's first.
    """

    slots: frozenset[int]
    rows: slice
    num_runs: int
    rank: int
    ranks: Tensor
    heads: Tensor


# Puts what a layer does to the rows of a plan on its module.
Hook = Callable[[], RemovableHandle]


class Layer:
    """The slabs of one layer. ``occupied`` says how many of its ranks each resident adapter uses here, by slot."""

    def __init__(self, module: nn.Linear | nn.Conv2d, num_ranks: int) -> None:
        self.module = module
        self.num_ranks = num_ranks
        self.occupied: dict[int, int] = {}
        self.slabs: dict[str, Tensor] = {}

    @property
    def num_bytes(self) -> int:
        """What the slabs take."""
        return sum(slab.nbytes for slab in self.slabs.values())

    def write(self, name: str, ranks: Tensor, values: Tensor, *, otherwise: float = 0.0) -> None:
        """Copy ``values`` to rows of the slab ``name``, which is made, with ``otherwise`` everywhere, when it is new."""
        if name not in self.slabs:
            with torch.inference_mode(False):
                shape = (self.num_ranks + 1, *values.shape[1:])
                self.slabs[name] = self.module.weight.new_full(shape, otherwise, requires_grad=False)
        self.slabs[name].index_copy_(0, ranks, values.to(self.slabs[name]))

    def unload(self, slot: int) -> None:
        """Forget an adapter; its rows stay until others take them."""
        del self.occupied[slot]

    def gathered(self, name: str, plan: Plan) -> Tensor:
        """(num_runs, rank, ...): the rows that ``plan`` reads."""
        return self.slabs[name].index_select(0, plan.ranks).unflatten(0, (plan.num_runs, plan.rank))


class LowRankLayer(Layer):
    """A layer whose outputs low-rank adapters add to."""

    def __init__(self, module: nn.Linear | nn.Conv2d, num_ranks: int) -> None:
        super().__init__(module, num_ranks)
        self._rescaling: set[int] = set()

    def load(self, slot: int, ranks: Tensor, adapter: LowRank) -> None:
        """Copy an adapter to the rows ``ranks``, the first of which is ``slot``."""
        self.write("down", ranks, adapter.down)
        self.write("up", ranks, adapter.up)
        if adapter.rescale is not None:
            self.write("rescale", ranks[:1], adapter.rescale[None], otherwise=1.0)
            self._rescaling.add(slot)
        elif "rescale" in self.slabs:
            self.slabs["rescale"].index_fill_(0, ranks[:1], 1.0)
        self.occupied[slot] = len(ranks)

    def unload(self, slot: int) -> None:
        """Forget an adapter; its rows stay until others take them."""
        super().unload(slot)
        self._rescaling.discard(slot)

    def hook(self, plan: Plan) -> Hook:
        """What adapts the rows of ``plan`` while it is on."""
        rescales = bool(self._rescaling & plan.slots)
        add = self._add_to_linear if isinstance(self.module, nn.Linear) else self._add_to_convolution
        gathered: list[Tensor] = []  # in the first pass, so that a switch costs nothing of it

        def adapt(_module: nn.Module, inputs: tuple[Tensor], outputs: Tensor) -> None:
            if not gathered:
                gathered.extend((self.gathered("down", plan), self.gathered("up", plan)))
            down, up = gathered
            target = outputs[plan.rows]
            add(plan, down, up, inputs[0][plan.rows], target)
            if rescales:
                self._rescale(plan, target)

        return lambda: self.module.register_forward_hook(adapt)

    def _add_to_linear(self, plan: Plan, down: Tensor, up: Tensor, inputs: Tensor, outputs: Tensor) -> None:
        hidden = torch.bmm(inputs.reshape(plan.num_runs, -1, inputs.shape[-1]), down.mT)
        outputs.view(plan.num_runs, -1, outputs.shape[-1]).baddbmm_(hidden, up)

    def _add_to_convolution(self, plan: Plan, down: Tensor, up: Tensor, inputs: Tensor, outputs: Tensor) -> None:
        """One convolution with a group a run, then a matrix product a picture."""
        layer = cast(nn.Conv2d, self.module)
        runs = inputs.unflatten(0, (plan.num_runs, -1)).transpose(0, 1).flatten(1, 2)
        hidden = nn.functional.conv2d(
            runs, down.flatten(0, 1), None, layer.stride, layer.padding, layer.dilation, plan.num_runs
        )
        hidden = hidden.flatten(2).unflatten(1, (plan.num_runs, plan.rank)).transpose(0, 1)
        outputs += torch.matmul(up.mT[:, None], hidden).reshape(outputs.shape)

    def _rescale(self, plan: Plan, outputs: Tensor) -> None:
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


class RewriterLayer(Layer):
    """A layer whose inputs small networks rewrite."""

    def load(self, slot: int, ranks: Tensor, adapter: Rewriter) -> None:
        """Copy a network to the rows ``ranks``, the first of which is ``slot``."""
        self.write("down", ranks, adapter.down)
        self.write("down_bias", ranks, adapter.down_bias)
        self.write("up", ranks, adapter.up)
        self.write("up_bias", ranks[:1], adapter.up_bias[None])
        self.occupied[slot] = len(ranks)

    def hook(self, plan: Plan) -> Hook:
        """What adapts the rows of ``plan`` while it is on."""
        down, up = self.gathered("down", plan), self.gathered("up", plan)
        bias = self.slabs["down_bias"].index_select(0, plan.ranks).view(plan.num_runs, 1, plan.rank)
        up_bias = self.slabs["up_bias"].index_select(0, plan.heads)[:, None]

        def rewrite(_module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
            told = inputs[0].clone()
            rows = told[plan.rows]
            runs = rows.reshape(plan.num_runs, -1, rows.shape[-1])
            hidden = nn.functional.silu(torch.baddbmm(bias, runs, down.mT))
            rows += torch.baddbmm(up_bias, hidden, up).view(rows.shape)
            return told

        return lambda: self.module.register_forward_pre_hook(rewrite)


def bytes_of_rank(module: nn.Module) -> int:
    """Of a low-rank adapter with its rescaling, and for linear layers of a rewriter beside it."""
    assert isinstance(module, nn.Linear | nn.Conv2d)
    numbers = module.weight[0].numel() + 2 * len(module.weight)
    if isinstance(module, nn.Linear):
        numbers += 3 * module.in_features + 1
    return numbers * module.weight.itemsize


def takes_adapters(module: nn.Module) -> bool:
    """Whether an adapter can stand beside it."""
    if isinstance(module, nn.Conv2d):
        return module.groups == 1 and module.padding_mode == "zeros"
    return isinstance(module, nn.Linear)
