"""Low-rank adapters in the layouts of diffusers, peft and kohya, back as ours. Knows no file on disk but peft's own.

Factors keep every bit. Where a file scales an adapter (alpha / rank, or alpha / √rank for rsLoRA), the scale goes into
the upper factor, once, in 64-bit floats rounded to 32: an adapter of ours has alpha = rank.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from packshot.diffusion.foreign_files import Tensors, json_object
from packshot.diffusion.interop import DOWN, MAGNITUDE, UP, Layout, arranged, linear_layers
from packshot.diffusion.kohya import KohyaLayer
from packshot.domain.errors import ImportRefused, IncompatibleFineTune

_PARTS = {
    "down": re.compile(r"(.+?)(?:\.lora_A(?:\.\w+)?|\.lora_down|[._]lora\.down|\.lora_linear_layer\.down)\.weight"),
    "up": re.compile(r"(.+?)(?:\.lora_B(?:\.\w+)?|\.lora_up|[._]lora\.up|\.lora_linear_layer\.up)\.weight"),
    "magnitude": re.compile(r"(.+?)\.lora_magnitude_vector(?:\.\w+)*"),
    "dora_scale": re.compile(r"(.+)\.dora_scale"),
    "alpha": re.compile(r"(.+)\.alpha"),
}
_PEFT = "base_model.model."
_PEFT_CONFIG = "adapter_config.json"
_DIFFUSERS_CONFIG = "lora_adapter_metadata"


@dataclass(frozen=True, kw_only=True)
class _Adapter:
    """One adapter of a file: its layer there, the place in the base, and its tensors in 32-bit floats."""

    name: str
    place: KohyaLayer
    parts: Mapping[str, Tensor]


def is_adapter(name: str) -> bool:
    """Whether a tensor of this name is part of a low-rank adapter."""
    return _part_of(name) is not None


def is_kohya(names: Iterable[str]) -> bool:
    """Whether the names of adapters are the kohya layout's."""
    return any(name.startswith("lora_") for name in names)


def read_adapters(layout: Layout, file: Tensors, *, exported_rank: int) -> dict[str, Tensor]:
    """The adapters of ``file`` by our names. ``exported_rank`` is each adapter's where we exported them; 0 = unknown.

    Raises:
        ImportRefused: half an adapter, another kind of adapter, or numbers that are none.
        IncompatibleFineTune: a layer or a shape that the base does not have.
    """
    places = _places(layout)
    configs = _configs(layout, file)
    own: dict[str, Tensor] = {}
    for name, parts in _grouped(file).items():
        place = places.get(_plain(name))
        if place is None:
            raise IncompatibleFineTune(
                f"{file.path.name} has an adapter for {name!r}, and the base has no such layer; import it onto the base "
                "that it was made for, with --base"
            )
        if not {"down", "up"} <= parts.keys():
            missing = "upper" if "down" in parts else "lower"
            raise ImportRefused(f"{file.path.name} lacks the {missing} factor of {name!r}; get the whole file")
        adapter = _Adapter(name=name, place=place, parts=parts)
        converted = _converted(adapter, layout, configs, file.path.name, exported_rank)
        twice = converted.keys() & own.keys()
        if twice:
            raise ImportRefused(f"{file.path.name} has two adapters for {min(twice)!r}; import one of them")
        own |= converted
    return own


def _grouped(file: Tensors) -> dict[str, dict[str, Tensor]]:
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in file.tensors.items():
        found = _part_of(name)
        if found is None:
            raise ImportRefused(
                f"{file.path.name} holds {name!r} beside low-rank adapters; LoRA and DoRA are read, and no other kind: "
                "convert it to LoRA"
            )
        kind, layer = found
        value = tensor.float()
        if not value.isfinite().all():
            raise ImportRefused(
                f"{file.path.name} holds numbers in {name!r} that are none (NaN or infinite); get it anew"
            )
        if kind in groups.setdefault(layer, {}):
            raise ImportRefused(f"{file.path.name} has two adapters for {layer!r}; import one of them")
        groups[layer][kind] = value
    return groups


def _part_of(name: str) -> tuple[str, str] | None:
    for kind, pattern in _PARTS.items():
        if found := pattern.fullmatch(name):
            return kind, found[1]
    return None


def _plain(name: str) -> str:
    """A layer's name without what programs put around it."""
    if name.startswith("diffusion_model."):
        return "lora_unet_" + name.removeprefix("diffusion_model.").replace(".", "_")
    if ".processor." in name:
        name = name.replace(".processor.", ".")
        return f"{name}.0" if name.endswith(".to_out") else name
    return name


def _places(layout: Layout) -> dict[str, KohyaLayer]:
    """Every name by which a layer of the base is called, with its place."""
    base = layout.base
    places = {place.name: place for place in layout.layers}
    for layer in linear_layers(base.denoiser):
        place = KohyaLayer(name=layer, layers=(f"{base.prefix}.{layer}",))
        names = (layer, f"{base.prefix}.{layer}", _PEFT + layer, "lora_unet_" + layer.replace(".", "_"))
        places |= {name: place for name in names if name not in places}
    for encoder, module in base.trainable_text_encoders.items():
        for layer in linear_layers(module):
            place = KohyaLayer(name=layer, layers=(f"{encoder}.{layer}",))
            bare = layer.removeprefix("text_model.")
            places |= {f"{encoder}.{bare}": place, f"{encoder}.text_model.{bare}": place}
    return places


def _converted(
    adapter: _Adapter, layout: Layout, configs: Mapping[str, Mapping[str, Any]], source: str, exported_rank: int
) -> dict[str, Tensor]:
    """Our adapters for what one of theirs covers: its outputs divided, each with the part of the rank that it uses."""
    weights = [layout.weight(layer) for layer in adapter.place.layers]
    rows, inner = sum(len(weight) for weight in weights), weights[0].shape[1:]
    down, up = adapter.parts["down"], adapter.parts["up"]
    rank = len(down) if down.dim() else 0
    if not rank or down.numel() != rank * inner.numel() or up.numel() != rows * rank or up.shape[:2] != (rows, rank):
        raise IncompatibleFineTune(
            f"{source} has an adapter of the shapes {tuple(down.shape)} and {tuple(up.shape)} for {adapter.name!r}, and "
            f"the base's layer is {rows} x {tuple(inner)}; import it onto the base that it was made for, with --base"
        )
    scale = _scale(adapter, rank, configs, source)
    up = arranged(adapter.place, up.reshape(rows, rank))
    up = up if scale == 1 else (up.double() * scale).float()
    lengths = _lengths(adapter, rows, source)
    own: dict[str, Tensor] = {}
    at = 0
    for number, (layer, weight) in enumerate(zip(adapter.place.layers, weights, strict=True)):
        part = up[at : at + len(weight)]
        length = None if lengths is None else lengths[at : at + len(weight)]
        at += len(weight)
        used = torch.ones(rank, dtype=torch.bool) if len(weights) == 1 else (part != 0).any(dim=0)
        if rank == exported_rank * len(weights):  # side by side, as an export joins them
            side_by_side = torch.arange(rank) // exported_rank == number
            used = side_by_side if not (used & ~side_by_side).any() else used
        if not used.any():
            if length is None or torch.equal(length, weight.flatten(1).norm(dim=1)):
                continue  # nothing was learned for this part
            used[0] = True
        is_convolution = weight.dim() == 4
        own[layer + DOWN] = down[used].reshape(-1, *inner)
        own[layer + UP] = part[:, used, None, None] if is_convolution else part[:, used]
        if length is not None:
            own[layer + MAGNITUDE] = length.reshape(1, -1, 1, 1) if is_convolution else length
    return own


def _lengths(adapter: _Adapter, rows: int, source: str) -> Tensor | None:
    """(rows,): DoRA's lengths in our order."""
    scale = adapter.parts.get("dora_scale", adapter.parts.get("magnitude"))
    if scale is None:
        return None
    if scale.numel() != rows or ("dora_scale" in adapter.parts and len(scale) != rows):
        raise IncompatibleFineTune(
            f"{source} has DoRA's lengths of {adapter.name!r} in the shape {tuple(scale.shape)}, and the base's layer has "
            f"{rows} outputs; lengths along the inputs are not read"
        )
    return arranged(adapter.place, scale.flatten())


def _scale(adapter: _Adapter, rank: int, configs: Mapping[str, Mapping[str, Any]], source: str) -> float:
    if "alpha" in adapter.parts:
        return adapter.parts["alpha"].item() / rank
    component, _, layer = adapter.place.layers[0].partition(".")
    config = configs.get(component)
    if config is None:
        return 1.0
    try:
        patterns: Mapping[str, float] = config.get("alpha_pattern") or {}
        alphas = [each for key, each in patterns.items() if re.fullmatch(rf"(.*\.)?({key})", layer)]
        alpha = float(alphas[0] if alphas else config["lora_alpha"])
    except (KeyError, TypeError, ValueError, AttributeError, re.error) as error:
        raise ImportRefused(
            f"the configuration of the adapters in {source} names no alpha for {adapter.name!r} ({error!r}); write it anew"
        ) from error
    return alpha / (sqrt(rank) if config.get("use_rslora") else rank)


def _configs(layout: Layout, file: Tensors) -> dict[str, Mapping[str, Any]]:
    """peft's configuration of the adapters by component: in the headers as diffusers writes it, or in a file beside."""
    prefix = layout.base.prefix
    text = file.metadata.get(_DIFFUSERS_CONFIG)
    if text is not None:
        values = json_object(text, f"{_DIFFUSERS_CONFIG} of {file.path.name}")
        if "lora_alpha" in values:
            return {prefix: values}
        parts = (prefix, *layout.base.text_encoders)
        split = {
            part: {key.removeprefix(f"{part}."): each for key, each in values.items() if key.startswith(f"{part}.")}
            for part in parts
        }
        return {part: config for part, config in split.items() if config}
    if not any(name.startswith(_PEFT) for name in file.tensors):
        return {}
    return {prefix: json_object(_beside(file.path), _PEFT_CONFIG)}


def _beside(path: Path) -> str:
    config = path.with_name(_PEFT_CONFIG)
    try:
        return config.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ImportRefused(
            f"{path.name} was written by peft, and {config} beside it, which says alpha, cannot be read ({error}); "
            "put the two into one folder"
        ) from error
