"""Low-rank adapters (Hu et al. 2021, LoRA; Liu et al. 2024, DoRA) on the denoiser, through peft. Knows no family.

Names of parameters are peft's, behind the component's name, as ``load_lora_weights`` of diffusers reads them. The
token's row stays as it was drawn. For generation the denoiser's adapters stand beside it (``adapters``); those of text
encoders, which read a prompt once, are multiplied out into copies of the weights.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn import functional

from packshot.diffusion.adapters import LayerAdapter, LowRank
from packshot.diffusion.floats import resolved
from packshot.diffusion.protocols import Addition, Attachment, Family, ParameterGroup
from packshot.diffusion.swap import swap_parameters
from packshot.diffusion.weights import WeightsHeader
from packshot.domain.errors import IncompatibleFineTune
from packshot.domain.training import TrainingConfig
from packshot.domain.training_choices import MixedPrecision, Targets

ATTENTION_LAYERS = (
    *("to_q", "to_k", "to_v", "to_out.0"),
    *("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"),
)
OTHER_LAYERS = (
    *("ff.net.0.proj", "ff.net.2", "proj_in", "proj_out", "conv1", "conv2", "conv_shortcut"),
    *("ff_context.net.0.proj", "ff_context.net.2", "proj_mlp"),
)
TEXT_ENCODER_LAYERS = ("q_proj", "k_proj", "v_proj", "out_proj")

_ADAPTER = "packshot"
_DOWN, _UP, _MAGNITUDE = ".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector"


def attach(base: Family, rows: Mapping[str, nn.Parameter], config: TrainingConfig) -> Attachment:
    """Adapters of ``config.rank`` (alpha = rank) on ``config.targets``, and on the text encoders' attention if asked.

    With ``config.use_dora`` the length of each row of a weight learns apart from its direction; layers with a row of zeros
    are left alone. The adapters start from ``config.seed`` and contribute nothing at first.
    """
    del rows
    layers = ATTENTION_LAYERS + (OTHER_LAYERS if config.targets is Targets.ALL else ())
    modules = {base.prefix: (base.denoiser, layers, config.learning_rate)}
    if config.train_text_encoder:
        rate = config.rate_of_text_encoders
        modules |= {name: (each, TEXT_ENCODER_LAYERS, rate) for name, each in base.trainable_text_encoders.items()}
    in_32_bits = resolved(config.mixed_precision, base.device) is MixedPrecision.NO
    groups: list[ParameterGroup] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        for prefix, (module, targets, rate) in modules.items():
            found = _inject(module, targets, config, in_32_bits=in_32_bits)
            named = {f"{prefix}.{name}": each for name, each in found.items()}
            groups.append(ParameterGroup(parameters=named, learning_rate=rate))

    def detach() -> None:
        for module, _, _ in modules.values():
            _eject(module)

    return Attachment(
        groups=tuple(groups),
        text_encoder_learns=config.train_text_encoder,
        detach=detach,
        addition_of=_addition_of,
    )


def apply(base: Family, header: WeightsHeader, tensors: Mapping[str, Tensor]) -> Callable[[], None]:
    """Put weights with the adapters multiplied out in the base's place; returns how to put the base's own back.

    Raises:
        IncompatibleFineTune: an adapter for a layer that the base does not have, or half an adapter.
    """
    modules = {base.prefix: base.denoiser, **base.text_encoders}
    scale = header.alpha / header.rank
    merged = [
        (module, {f"{each.layer}.weight": each.merged(scale) for each in _adapters(module, f"{prefix}.", tensors)})
        for prefix, module in modules.items()
    ]
    undo = [swap_parameters(module, weights)[1] for module, weights in merged]

    def take_out() -> None:
        for put_back in undo:
            put_back()

    return take_out


def beside(base: Family, header: WeightsHeader, tensors: Mapping[str, Tensor]) -> dict[str, LayerAdapter]:
    """The adapters of the denoiser, by layer, as they stand beside it.

    Raises:
        IncompatibleFineTune: as ``apply``.
    """
    scale = header.alpha / header.rank
    return {each.layer: each.beside(scale) for each in _adapters(base.denoiser, f"{base.prefix}.", tensors)}


class _AdaptedLayer(nn.Module):
    """A frozen layer with an adapter whose scale is 1; alone in a base, or in a group by what ``added`` gives."""

    def __init__(self, frozen: nn.Module, down: nn.Module, up: nn.Module) -> None:
        super().__init__()
        self.frozen, self.down, self.up = frozen, down, up

    @property
    def weight(self) -> Tensor:
        """The frozen layer's, which some models ask for its kind of floats."""
        weight = self.frozen.weight
        assert isinstance(weight, Tensor)
        return weight

    def forward(self, inputs: Tensor) -> Tensor:
        """What the frozen layer gives, and what the adapter adds."""
        result = self.frozen(inputs)
        return (result + self.added(inputs)).to(result.dtype)

    def added(self, inputs: Tensor) -> Tensor:
        """The adapter's part of the outputs."""
        return self.up(self.down(inputs))


class _AdaptedLinear(_AdaptedLayer):
    """A linear layer in 32-bit floats: what the adapter adds is accumulated where the frozen layer's result stands."""

    def forward(self, inputs: Tensor) -> Tensor:
        """What the frozen layer and the adapter give together."""
        return cast(Tensor, _Accumulated.apply(inputs, self.weight, self.frozen.bias, self.down.weight, self.up.weight))


class _Accumulated(torch.autograd.Function):
    """``x (W + B A)^T + b`` with two passes less over activations than a sum of two layers: one forward, one backward.

    Only ``x``, ``A`` (rank, in) and ``B`` (out, rank) have gradients; ``W`` (out, in) and ``b`` (out,) are frozen.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor) -> Tensor:
        results = functional.linear(inputs, weight, bias)
        inner = functional.linear(inputs, down)
        ctx.save_for_backward(inputs, weight, down, up, inner)
        _rows(results).addmm_(_rows(inner), up.t())
        return results

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None, Tensor, Tensor]:
        inputs, weight, down, up, inner = ctx.saved_tensors
        of_results = _rows(gradients[0])
        of_inner = of_results @ up
        of_inputs = None
        if ctx.needs_input_grad[0]:
            of_inputs = (of_results @ weight).addmm_(of_inner, down).view_as(inputs)
        return of_inputs, None, None, of_inner.t() @ _rows(inputs), of_results.t() @ _rows(inner)


def _rows(values: Tensor) -> Tensor:
    """All but the last dimension as one."""
    return values.reshape(-1, values.shape[-1])


def _inject(
    module: nn.Module, targets: tuple[str, ...], config: TrainingConfig, *, in_32_bits: bool
) -> dict[str, nn.Parameter]:
    # By full names, so that the last projection of a transformer, a proj_out of its own, is left alone.
    layers = [name for name, _ in module.named_modules() if name.endswith(tuple(f".{target}" for target in targets))]
    if config.use_dora:
        layers = [name for name in layers if _has_directions(module.get_submodule(name))]
    adapters = LoraConfig(r=config.rank, lora_alpha=config.rank, target_modules=layers, use_dora=config.use_dora)
    inject_adapter_in_model(adapters, module, adapter_name=_ADAPTER)
    learning = {name: each for name, each in module.named_parameters() if each.requires_grad and ".lora_" in name}
    for parameter in learning.values():
        parameter.data = parameter.data.float()  # peft gives them the floats of the layer
    if not config.use_dora:
        for name, layer in _layers_of_peft(module):
            frozen = layer.get_base_layer()
            kind = _AdaptedLinear if in_32_bits and isinstance(frozen, nn.Linear) else _AdaptedLayer
            module.set_submodule(name, kind(frozen, layer.lora_A[_ADAPTER], layer.lora_B[_ADAPTER]))
    return {
        name.replace(f".{_ADAPTER}.", ".").replace(f"{_MAGNITUDE}.weight", _MAGNITUDE): parameter
        for name, parameter in learning.items()
    }


def _has_directions(layer: nn.Module) -> bool:
    """Whether every row of the weight has a length, by which DoRA divides: an output that training left dead has none."""
    return bool((layer.get_parameter("weight").flatten(1) != 0).any(dim=1).all())


def _addition_of(layer: nn.Module) -> Addition | None:
    return layer.added if type(layer) is _AdaptedLayer else None


def _eject(module: nn.Module) -> None:
    for name, layer in _layers_of_peft(module):
        module.set_submodule(name, layer.get_base_layer())
    for name, layer in list(module.named_modules()):
        if isinstance(layer, _AdaptedLayer):
            module.set_submodule(name, layer.frozen)
    del module.peft_config


def _layers_of_peft(module: nn.Module) -> list[tuple[str, LoraLayer]]:
    return [(name, layer) for name, layer in module.named_modules() if isinstance(layer, LoraLayer)]


@dataclass(frozen=True, kw_only=True)
class _Adapter:
    """One layer's: ``down`` (rank, in, ...) and ``up`` (out, rank), unscaled, ``magnitude`` (out,) where DoRA learned."""

    layer: str
    weight: Tensor
    down: Tensor
    up: Tensor
    magnitude: Tensor | None

    def merged(self, scale: float) -> Tensor:
        """The layer's weight with the adapter in it."""
        delta = torch.einsum("or,r...->o...", self.up, self.down)
        weight = self.weight + scale * delta
        if self.magnitude is None:
            return weight
        return (self._rescale(weight)[:, None] * weight.flatten(1)).reshape(weight.shape)

    def beside(self, scale: float) -> LowRank:
        """The adapter as what is added to the frozen layer."""
        rescale = None
        if self.magnitude is not None:
            weight = self.weight + scale * torch.einsum("or,r...->o...", self.up, self.down)
            rescale = self._rescale(weight)
        return LowRank(down=self.down, up=scale * self.up.T.contiguous(), rescale=rescale)

    def _rescale(self, weight: Tensor) -> Tensor:
        """What each row is multiplied by, (out,), to be as long as was learned; a row of zeros stays one."""
        assert self.magnitude is not None
        lengths = weight.flatten(1).norm(dim=1)
        return torch.where(lengths > 0, self.magnitude / lengths, 0.0)


def _adapters(module: nn.Module, prefix: str, tensors: Mapping[str, Tensor]) -> Iterator[_Adapter]:
    """The adapters of ``module``, on its device.

    Raises:
        IncompatibleFineTune: for a layer that it does not have, of another shape, or half an adapter.
    """
    names = {name.removeprefix(prefix) for name in tensors if name.startswith(prefix)}
    for layer in sorted({name.removesuffix(_DOWN).removesuffix(_UP).removesuffix(_MAGNITUDE) for name in names}):
        if not {layer + _DOWN, layer + _UP} <= names:
            raise IncompatibleFineTune(f"the fine-tune has no whole adapter for {layer!r}; train it anew")
        try:
            weight = module.get_parameter(f"{layer}.weight").detach()
        except AttributeError:
            raise IncompatibleFineTune(
                f"the base has no layer {layer!r}; the fine-tune was trained on another base"
            ) from None
        down, up = tensors[prefix + layer + _DOWN], tensors[prefix + layer + _UP].flatten(1)
        if (len(up), *down.shape[1:]) != weight.shape or up.shape[1] != len(down):
            raise IncompatibleFineTune(
                f"the adapter of {layer!r} has the shapes {tuple(down.shape)} and {tuple(up.shape)}, the base's layer "
                f"{tuple(weight.shape)}; it was trained on another base"
            )
        magnitude = tensors.get(prefix + layer + _MAGNITUDE)
        if magnitude is not None and magnitude.numel() != len(weight):
            raise IncompatibleFineTune(
                f"the magnitudes of {layer!r} have the shape {tuple(magnitude.shape)}, the base's layer "
                f"{tuple(weight.shape)}; they were trained on another base"
            )
        yield _Adapter(
            layer=layer,
            weight=weight,
            down=down.to(weight.device),
            up=up.to(weight.device),
            magnitude=None if magnitude is None else magnitude.flatten().to(weight.device),
        )
