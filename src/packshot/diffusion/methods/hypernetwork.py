"""Hypernetworks: a small residual network before every key and value projection that reads the prompt. Our own code.

After the description of the method in NovelAI's "Improvements on Stable Diffusion" (2022): the denoiser's weights stay
as they are, and what its cross-attention is told about the prompt is rewritten, for keys and for values separately. In
transformers over two streams those are the projections of the text's stream. Knows no family.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from packshot.diffusion.adapters import LayerAdapter, Rewriter
from packshot.diffusion.protocols import TOKEN_PREFIX, Attachment, Family, ParameterGroup
from packshot.diffusion.weights import WeightsHeader
from packshot.domain.errors import IncompatibleFineTune
from packshot.domain.training import TrainingConfig

_INFIX = ".hypernetwork."


class Rewriting(nn.Module):
    """A frozen projection behind x + up(silu(down(x))); ``up`` starts at zero, so that at first nothing changes."""

    def __init__(self, projection: nn.Linear, width: int) -> None:
        super().__init__()
        self.projection = projection
        self.down = nn.Linear(projection.in_features, width)
        self.up = nn.Linear(width, projection.in_features)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)
        self.to(projection.weight.device)

    def forward(self, told: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        return self.projection(told + self.up(nn.functional.silu(self.down(told))))

    def own_parameters(self) -> dict[str, nn.Parameter]:
        """All parameters but the projection's."""
        return {name: each for name, each in self.named_parameters() if not name.startswith("projection.")}


def attach(base: Family, rows: Mapping[str, nn.Parameter], config: TrainingConfig) -> Attachment:
    """Networks with a hidden layer of ``config.rank`` learn at ``config.learning_rate``, from ``config.seed``."""
    del rows
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        inserted, detach = _insert(base.denoiser, config.rank)
    learned = {
        f"{base.prefix}.{layer}{_INFIX}{name}": parameter
        for layer, rewriting in inserted.items()
        for name, parameter in rewriting.own_parameters().items()
    }
    return Attachment(
        groups=(ParameterGroup(parameters=learned, learning_rate=config.learning_rate),),
        text_encoder_learns=False,
        detach=detach,
    )


def apply(base: Family, header: WeightsHeader, tensors: Mapping[str, Tensor]) -> Callable[[], None]:
    """Put the learned networks in; returns how to take them out.

    Raises:
        IncompatibleFineTune: other layers or shapes than the base has.
    """
    learned = {name: tensor for name, tensor in tensors.items() if not name.startswith(TOKEN_PREFIX)}
    with torch.random.fork_rng(devices=[]):
        inserted, take_out = _insert(base.denoiser, header.rank)
    places = {
        f"{base.prefix}.{layer}{_INFIX}{name}": parameter
        for layer, rewriting in inserted.items()
        for name, parameter in rewriting.own_parameters().items()
    }
    try:
        _check_shapes({name: tuple(place.shape) for name, place in places.items()}, learned)
    except IncompatibleFineTune:
        take_out()
        raise
    for name, tensor in learned.items():
        places[name].data.copy_(tensor)
        places[name].requires_grad_(False)
    return take_out


def beside(base: Family, header: WeightsHeader, tensors: Mapping[str, Tensor]) -> dict[str, LayerAdapter]:
    """The networks by the projection that they stand before.

    Raises:
        IncompatibleFineTune: as ``apply``.
    """
    learned = {name: tensor for name, tensor in tensors.items() if not name.startswith(TOKEN_PREFIX)}
    rewriters: dict[str, LayerAdapter] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in _prompt_readers(base.denoiser):
        width = base.denoiser.get_parameter(f"{layer}.weight").shape[1]
        start = f"{base.prefix}.{layer}{_INFIX}"
        shapes |= {
            f"{start}down.weight": (header.rank, width),
            f"{start}down.bias": (header.rank,),
            f"{start}up.weight": (width, header.rank),
            f"{start}up.bias": (width,),
        }
    _check_shapes(shapes, learned)
    for layer in _prompt_readers(base.denoiser):
        start = f"{base.prefix}.{layer}{_INFIX}"
        rewriters[layer] = Rewriter(
            down=learned[f"{start}down.weight"],
            down_bias=learned[f"{start}down.bias"],
            up=learned[f"{start}up.weight"].T.contiguous(),
            up_bias=learned[f"{start}up.bias"],
        )
    return rewriters


def _check_shapes(shapes: Mapping[str, tuple[int, ...]], learned: Mapping[str, Tensor]) -> None:
    wrong = sorted(shapes.keys() ^ learned.keys()) or [
        name for name, tensor in learned.items() if tuple(tensor.shape) != shapes[name]
    ]
    if wrong:
        raise IncompatibleFineTune(
            f"the hypernetwork does not fit the base at {wrong[0]!r}; it was trained on another base"
        )


def _insert(denoiser: nn.Module, width: int) -> tuple[dict[str, Rewriting], Callable[[], None]]:
    originals = {layer: denoiser.get_submodule(layer) for layer in _prompt_readers(denoiser)}
    inserted: dict[str, Rewriting] = {}
    for layer, projection in originals.items():
        assert isinstance(projection, nn.Linear)
        inserted[layer] = Rewriting(projection, width)
        denoiser.set_submodule(layer, inserted[layer])

    def take_out() -> None:
        for layer, projection in originals.items():
            denoiser.set_submodule(layer, projection)

    return inserted, take_out


def _prompt_readers(denoiser: nn.Module) -> list[str]:
    """The key and value projections whose input is the prompt."""
    names: list[str] = []
    for name, module in denoiser.named_modules():
        if getattr(module, "add_k_proj", None) is not None:
            names += [f"{name}.add_k_proj", f"{name}.add_v_proj"]
        elif getattr(module, "is_cross_attention", False):
            names += [f"{name}.to_k", f"{name}.to_v"]
    return names
