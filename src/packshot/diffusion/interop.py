"""What other tools read: adapters and embeddings in diffusers' layout and in kohya's, which ComfyUI and A1111 read.

Weights are renamed and joined, never changed. Knows nothing of files on disk; ``exporter`` writes them.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from safetensors.torch import save
from torch import Tensor, nn

from packshot.diffusion.foreign_files import OWN_HEADER
from packshot.diffusion.kohya import KohyaLayer, denoiser_layers, text_encoder_layers
from packshot.diffusion.protocols import TOKEN_PREFIX, Family
from packshot.diffusion.weights import WeightsHeader, header_text, token_rows
from packshot.domain.errors import IncompatibleFineTune

DOWN, UP, MAGNITUDE = ".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector"
_KOHYA = {DOWN: ".lora_down.weight", UP: ".lora_up.weight", MAGNITUDE: ".dora_scale"}
_ADAPTERS, _EMBEDDINGS = "pytorch_lora_weights.safetensors", "learned_embeds{suffix}.safetensors"

# What each family calls its text encoders in embedding files, in the order of their folders.
ENCODERS = {
    "stable-diffusion": ("emb_params",),
    "stable-diffusion-xl": ("clip_l", "clip_g"),
    "stable-diffusion-3": ("clip_l", "clip_g", "t5xxl"),
    "flux": ("clip_l", "t5xxl"),
}
# What a family is called in the headers: modelspec's architecture and kohya's base version.
_ARCHITECTURES = {
    "stable-diffusion": ("stable-diffusion-v1", "sd_v1"),
    "stable-diffusion-xl": ("stable-diffusion-xl-v1-base", "sdxl_base_v1-0"),
    "stable-diffusion-3": ("stable-diffusion-3", "sd3"),
    "flux": ("flux-1-dev", "flux1"),
}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where the layers of one base stand in the kohya layout."""

    base: Family
    family: str

    @property
    def layers(self) -> list[KohyaLayer]:
        """Every layer of the base that the layout has a name for, ours with the component's name before it."""
        parts = [(self.base.prefix, self._of_denoiser())]
        parts += [
            (name, text_encoder_layers(self.family, name, linear_layers(encoder)))
            for name, encoder in self.base.trainable_text_encoders.items()
        ]
        return [
            replace(each, layers=tuple(f"{component}.{layer}" for layer in each.layers))
            for component, found in parts
            for each in found
        ]

    def _of_denoiser(self) -> list[KohyaLayer]:
        denoiser = self.base.denoiser
        per_block = getattr(denoiser, "config", {}).get("layers_per_block", 0)
        return denoiser_layers(self.family, linear_layers(denoiser), layers_per_block=per_block)

    def weight(self, layer: str) -> Tensor:
        """The base's weight of one of our layers."""
        component, _, name = layer.partition(".")
        module = self.base.denoiser if component == self.base.prefix else self.base.text_encoders[component]
        return module.get_parameter(f"{name}.weight").detach().cpu()


def linear_layers(module: nn.Module) -> list[str]:
    """The names of the layers that an adapter can stand beside: linear ones and convolutions."""
    return [name for name, each in module.named_modules() if isinstance(each, nn.Linear | nn.Conv2d)]


def to_diffusers(base: Family, header: WeightsHeader, tensors: Mapping[str, Tensor]) -> dict[str, bytes]:
    """Files for ``load_lora_weights`` and, one per text encoder, for ``load_textual_inversion``."""
    metadata = {"format": "pt", OWN_HEADER: header_text(header)}
    files: dict[str, bytes] = {}
    adapters = {_published(base, name): tensor for name, tensor in tensors.items() if not name.startswith(TOKEN_PREFIX)}
    if adapters:
        files[_ADAPTERS] = _file(adapters, metadata)
    for encoder, rows in token_rows(tensors).items():
        name = _EMBEDDINGS.format(suffix=encoder.removeprefix("text_encoder"))
        files[name] = _file({header.token: rows}, metadata)
    return files


def to_kohya(
    base: Family, header: WeightsHeader, tensors: Mapping[str, Tensor], title: str, resolution: int
) -> dict[str, bytes]:
    """One file of adapters, and one of the token's embeddings, with the headers that ComfyUI and A1111 show."""
    layout = Layout(base=base, family=header.family)
    joined: dict[str, Tensor] = {}
    left = {name for name in tensors if not name.startswith(TOKEN_PREFIX)}
    for each in layout.layers:
        present = [layer for layer in each.layers if layer + DOWN in tensors]
        if present:
            joined |= _join(each, present, tensors, layout)
            left -= {layer + suffix for layer in present for suffix in _KOHYA}
    if left:
        raise IncompatibleFineTune(f"the kohya layout has no place for {min(left)!r}; export it as diffusers")
    files: dict[str, bytes] = {}
    if joined:
        files[f"{title}.safetensors"] = _file(joined, _headers(header, title, resolution, "lora", joined))
    names = dict(zip(base.text_encoders, ENCODERS[header.family], strict=True))
    rows = {names[encoder]: each for encoder, each in token_rows(tensors).items()}
    if not rows:
        return files
    suffix = "-token" if joined else ""
    headers = _headers(header, title, resolution, "textual-inversion", rows)
    return files | {f"{title}{suffix}.safetensors": _file(rows, headers)}


def _join(place: KohyaLayer, present: list[str], tensors: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """Our adapters of the layers in ``place`` as one: ranks side by side, outputs one after the other."""
    downs = [tensors[layer + DOWN] for layer in present]
    rank = sum(len(down) for down in downs)
    ups: list[Tensor] = []
    at = 0
    for layer in place.layers:
        if layer not in present:
            ups.append(torch.zeros(len(layout.weight(layer)), rank))
            continue
        up = tensors[layer + UP]
        own = up.flatten(1)
        wide = torch.zeros(len(own), rank)
        wide[:, at : at + own.shape[1]] = own
        at += own.shape[1]
        ups.append(wide)
    up = arranged(place, torch.cat(ups))
    joined = {
        _KOHYA[DOWN]: torch.cat(downs),
        _KOHYA[UP]: up[:, :, None, None] if downs[0].dim() == 4 else up,
        ".alpha": torch.tensor(float(rank)),
    }
    if present[0] + MAGNITUDE in tensors:
        lengths = torch.cat([_magnitude(layer, tensors, layout) for layer in place.layers])
        joined[_KOHYA[MAGNITUDE]] = arranged(place, lengths)
    return {place.name + suffix: tensor for suffix, tensor in joined.items()}


def arranged(place: KohyaLayer, outputs: Tensor) -> Tensor:
    """Outputs, which are the first dimension, from our order to the other layout's, and from that to ours."""
    return outputs.roll(len(outputs) // 2, 0) if place.halves_swapped else outputs


def _magnitude(layer: str, tensors: Mapping[str, Tensor], layout: Layout) -> Tensor:
    """(out, 1), or (out, 1, 1, 1) for a convolution: DoRA's lengths, or the base's own where none was learned."""
    weight = layout.weight(layer)
    learned = tensors.get(layer + MAGNITUDE)
    lengths = weight.flatten(1).norm(dim=1) if learned is None else learned
    return lengths.reshape(-1, *[1] * (weight.dim() - 1))


def _published(base: Family, name: str) -> str:
    """A parameter's name as files have it: CLIP's layers stand in a ``text_model``."""
    component, _, layer = name.partition(".")
    if component in base.text_encoders and not layer.startswith("text_model."):
        return f"{component}.text_model.{layer}"
    return name


def _headers(
    header: WeightsHeader, title: str, resolution: int, kind: str, tensors: Mapping[str, Tensor]
) -> dict[str, str]:
    architecture, version = _ARCHITECTURES[header.family]
    config = json.loads(header.config)
    digest = hashlib.sha256(save({name: each.contiguous() for name, each in tensors.items()})).hexdigest()
    return {
        "format": "pt",
        "ss_base_model_version": version,
        "ss_learning_rate": str(config.get("learning_rate", "")),
        "ss_max_train_steps": str(config.get("steps", "")),
        "ss_network_alpha": str(header.alpha),
        "ss_network_dim": str(header.rank),
        "ss_network_module": "networks.lora",
        "ss_output_name": title,
        "ss_seed": str(config.get("seed", "")),
        "ss_sd_model_hash": header.base_digest,
        "ss_tag_frequency": json.dumps({"packshot": {header.trained_phrase: 1}}),
        "modelspec.architecture": f"{architecture}/{kind}",
        "modelspec.hash_sha256": f"0x{digest}",
        "modelspec.implementation": "diffusers",
        "modelspec.resolution": f"{resolution}x{resolution}",
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.title": title,
        "modelspec.trigger_phrase": header.trained_phrase,
        OWN_HEADER: header_text(header),
    }


def _file(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file with its metadata in order, so that equal contents give equal bytes."""
    data = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, metadata=dict(metadata))
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]
