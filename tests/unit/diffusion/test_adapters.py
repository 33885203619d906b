"""The bank of adapters: what a layer adds, whose rows get it, and who gives way to whom."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from packshot.diffusion.adapters import AdapterBank, LayerAdapter, LowRank, Rewriter

WIDTH = 6
LAYERS = ("line", "bare", "wide", "point")


class Denoiser(nn.Module):
    """A layer of each kind: linear with and without a bias, convolutions with a stride and of single pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(WIDTH, 5)
        self.bare = nn.Linear(WIDTH, 4, bias=False)
        self.wide = nn.Conv2d(WIDTH, 3, 3, stride=2, padding=1)
        self.point = nn.Conv2d(WIDTH, 2, 1)
        self.groups = nn.Conv2d(WIDTH, WIDTH, 3, groups=2)

    def forward(self, tokens: Tensor) -> list[Tensor]:
        """(rows, 16, WIDTH) to what each layer gives."""
        pixels = tokens.mT.unflatten(2, (4, 4))
        return [self.line(tokens), self.bare(tokens[:, 0]), self.wide(pixels), self.point(pixels)]


@pytest.fixture
def denoiser() -> Denoiser:
    torch.manual_seed(0)
    return Denoiser().requires_grad_(False)


def random(*shape: int) -> Tensor:
    return torch.randn(shape)


def low_rank(module: nn.Module, rank: int, *, dora: bool = False) -> LowRank:
    assert isinstance(module, nn.Linear | nn.Conv2d)
    out, *inputs = module.weight.shape
    rescale = random(out).abs() + 0.5 if dora else None
    return LowRank(down=random(rank, *inputs), up=random(rank, out), rescale=rescale)


def merged(denoiser: Denoiser, adapters: dict[str, LayerAdapter], tokens: Tensor) -> list[Tensor]:
    """What the denoiser gives for one row with the adapters multiplied out."""
    other = Denoiser()
    other.load_state_dict(denoiser.state_dict())
    told = dict.fromkeys(LAYERS, tokens)
    for name, adapter in adapters.items():
        if isinstance(adapter, Rewriter):
            hidden = nn.functional.silu(tokens @ adapter.down.mT + adapter.down_bias)
            told[name] = tokens + hidden @ adapter.up + adapter.up_bias
            continue
        weight = other.get_submodule(name).weight
        assert isinstance(weight, nn.Parameter)
        weight.data += torch.einsum("ro,r...->o...", adapter.up, adapter.down)
        if adapter.rescale is not None:
            weight.data *= adapter.rescale.view(-1, *[1] * (weight.dim() - 1))
    with torch.no_grad():
        return [other(told[name])[number] for number, name in enumerate(LAYERS)]


def fitting(denoiser: Denoiser, seed: int, layers: Sequence[str] = LAYERS, rank: int = 2) -> dict[str, LayerAdapter]:
    torch.manual_seed(seed)
    return {name: low_rank(denoiser.get_submodule(name), rank, dora=seed % 2 == 1) for name in layers}


def rewriting(seed: int) -> dict[str, LayerAdapter]:
    torch.manual_seed(seed)
    return {
        "line": Rewriter(down=random(3, WIDTH), down_bias=random(3), up=random(3, WIDTH), up_bias=random(WIDTH)),
    }


def check(denoiser: Denoiser, bank: AdapterBank, rows: Sequence[tuple[int, dict[str, LayerAdapter]]]) -> None:
    tokens = torch.randn(len(rows), 16, WIDTH, generator=torch.Generator().manual_seed(3))
    with torch.no_grad(), bank.rows([slot for slot, _ in rows]):
        found = denoiser(tokens)
    for number, (_, adapters) in enumerate(rows):
        expected = merged(denoiser, adapters, tokens[number : number + 1])
        for layer, part, whole in zip(LAYERS, found, expected, strict=True):
            torch.testing.assert_close(part[number : number + 1], whole, atol=1e-4, rtol=1e-4, msg=layer)


def test_each_row_has_its_own_adapter_wherever_it_stands(denoiser: Denoiser) -> None:
    bank = AdapterBank(denoiser, num_ranks=32)
    kinds = [
        {},
        fitting(denoiser, 0),
        fitting(denoiser, 1, rank=4),
        fitting(denoiser, 2, ["line"], rank=1),
        fitting(denoiser, 3, ["wide", "bare"], rank=3),
        rewriting(4),
    ]
    rows = [(bank.acquire(str(number), adapters), adapters) for number, adapters in enumerate(kinds)]
    held = [(slot, adapters) for slot, adapters in rows if slot is not None]
    assert len(held) == len(kinds)
    for order in ([0, 1, 2, 3, 4, 5], [5, 0, 3, 3, 1], [2, 2, 2, 2], [0, 0, 1, 1, 4, 4], [1, 0, 1, 0, 0], [3], [0, 0]):
        check(denoiser, bank, [held[place] for place in order])


def test_the_denoiser_stays_what_it_is(denoiser: Denoiser) -> None:
    before, described = {name: each.clone() for name, each in denoiser.state_dict().items()}, repr(denoiser)
    tokens = random(2, 16, WIDTH)
    bare = denoiser(tokens)
    bank = AdapterBank(denoiser, num_ranks=4)
    slot = bank.acquire("one", fitting(denoiser, 1))
    assert slot
    with bank.rows([slot, 0]):
        assert not torch.equal(denoiser(tokens)[0], bare[0])
    assert all(torch.equal(found, plain) for found, plain in zip(denoiser(tokens), bare, strict=True))
    assert repr(denoiser) == described
    assert all(torch.equal(each, before[name]) for name, each in denoiser.state_dict().items())


def test_what_nobody_holds_gives_way_the_oldest_first(denoiser: Denoiser) -> None:
    bank = AdapterBank(denoiser, num_ranks=5)
    adapters = {key: fitting(denoiser, number, rank=2) for number, key in enumerate("abcd")}
    first, second = bank.acquire("a", adapters["a"]), bank.acquire("b", adapters["b"])
    assert first and second
    assert bank.acquire("c", adapters["c"]) is None
    bank.release(first)
    assert bank.acquire("a", adapters["a"]) == first  # still resident
    bank.release(first)
    third = bank.acquire("c", adapters["c"])
    assert third
    assert bank.resident == ("b", "c")
    check(denoiser, bank, [(second, adapters["b"]), (third, adapters["c"]), (0, {})])
    bank.release(second)
    bank.release(third)
    assert bank.acquire("d", adapters["d"])
    assert bank.resident == ("c", "d")


def test_ranks_that_are_used_again_keep_nothing_of_their_last_adapter(denoiser: Denoiser) -> None:
    bank = AdapterBank(denoiser, num_ranks=4)
    slot = bank.acquire("dora", fitting(denoiser, 1, rank=4))
    assert slot
    bank.release(slot)
    adapters = fitting(denoiser, 2, ["line"], rank=2) | fitting(denoiser, 4, ["wide"], rank=4)
    slot = bank.acquire("uneven", adapters)
    assert slot
    check(denoiser, bank, [(slot, adapters), (0, {})])


def test_what_can_never_be_loaded_is_told(denoiser: Denoiser) -> None:
    bank = AdapterBank(denoiser, num_ranks=4)
    assert bank.takes(fitting(denoiser, 0, rank=4))
    assert not bank.takes(fitting(denoiser, 0, rank=5))
    assert not bank.takes({"groups": LowRank(down=random(1, 3, 3, 3), up=random(1, WIDTH))})


def test_the_slabs_are_those_of_the_layers_that_were_adapted(denoiser: Denoiser) -> None:
    bank = AdapterBank(denoiser, num_ranks=7)
    assert bank.num_bytes == 0
    bank.acquire("one", fitting(denoiser, 0, ["line"]))
    of_line = (7 + 1) * (WIDTH + 5) * 4
    assert bank.num_bytes == of_line
    bank.acquire("two", fitting(denoiser, 2, ["line"]))
    assert bank.num_bytes == of_line
    assert bank.max_bytes > of_line
