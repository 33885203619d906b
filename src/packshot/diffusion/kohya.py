"""Names of layers in the kohya layout, which ComfyUI and A1111 read. Knows the families' names, and no tensor.

Stable Diffusion 1.x and 2.x keep the names of diffusers with underscores; the others go by the names of the models'
own code, where one layer often holds what diffusers splits into several.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class KohyaLayer:
    """One layer of the other layout: its name, and ours whose outputs follow each other in it.

    ``halves_swapped``: the other layout has the second half of the outputs first.
    """

    name: str
    layers: tuple[str, ...]
    halves_swapped: bool = False


_STREAMS = {
    "attn.to_q": ("img_attn.qkv", 0),
    "attn.to_k": ("img_attn.qkv", 1),
    "attn.to_v": ("img_attn.qkv", 2),
    "attn.to_out.0": ("img_attn.proj", 0),
    "attn.add_q_proj": ("txt_attn.qkv", 0),
    "attn.add_k_proj": ("txt_attn.qkv", 1),
    "attn.add_v_proj": ("txt_attn.qkv", 2),
    "attn.to_add_out": ("txt_attn.proj", 0),
    "ff.net.0.proj": ("img_mlp.0", 0),
    "ff.net.2": ("img_mlp.2", 0),
    "ff_context.net.0.proj": ("txt_mlp.0", 0),
    "ff_context.net.2": ("txt_mlp.2", 0),
    "norm1.linear": ("img_mod.lin", 0),
    "norm1_context.linear": ("txt_mod.lin", 0),
}
_SINGLE = {
    "attn.to_q": ("linear1", 0),
    "attn.to_k": ("linear1", 1),
    "attn.to_v": ("linear1", 2),
    "proj_mlp": ("linear1", 3),
    "proj_out": ("linear2", 0),
    "norm.linear": ("modulation.lin", 0),
}
_JOINT = {
    "attn.to_q": ("x_block.attn.qkv", 0),
    "attn.to_k": ("x_block.attn.qkv", 1),
    "attn.to_v": ("x_block.attn.qkv", 2),
    "attn.to_out.0": ("x_block.attn.proj", 0),
    "attn2.to_q": ("x_block.attn2.qkv", 0),
    "attn2.to_k": ("x_block.attn2.qkv", 1),
    "attn2.to_v": ("x_block.attn2.qkv", 2),
    "attn2.to_out.0": ("x_block.attn2.proj", 0),
    "attn.add_q_proj": ("context_block.attn.qkv", 0),
    "attn.add_k_proj": ("context_block.attn.qkv", 1),
    "attn.add_v_proj": ("context_block.attn.qkv", 2),
    "attn.to_add_out": ("context_block.attn.proj", 0),
    "ff.net.0.proj": ("x_block.mlp.fc1", 0),
    "ff.net.2": ("x_block.mlp.fc2", 0),
    "ff_context.net.0.proj": ("context_block.mlp.fc1", 0),
    "ff_context.net.2": ("context_block.mlp.fc2", 0),
    "norm1.linear": ("x_block.adaLN_modulation.1", 0),
    "norm1_context.linear": ("context_block.adaLN_modulation.1", 0),
}
_BLOCKS = {
    "flux": {
        "transformer_blocks": ("double_blocks", _STREAMS),
        "single_transformer_blocks": ("single_blocks", _SINGLE),
    },
    "stable-diffusion-3": {"transformer_blocks": ("joint_blocks", _JOINT)},
}
_IN_RESNET = {
    "conv1": "in_layers.2",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
    "time_emb_proj": "emb_layers.1",
}


def denoiser_layers(family: str, layers: Sequence[str], *, layers_per_block: int) -> list[KohyaLayer]:
    """The denoiser's layers that the layout has a name for. ``layers_per_block`` counts in UNets alone."""
    places: dict[str, dict[int, str]] = {}
    last_norm = _last_context_norm(layers) if family == "stable-diffusion-3" else ""
    for layer in layers:
        place = _place(family, layer, layers_per_block)
        if place:
            places.setdefault(place[0], {})[place[1]] = layer
    return [
        KohyaLayer(
            name="lora_unet_" + name.replace(".", "_"),
            layers=tuple(parts[at] for at in sorted(parts)),
            halves_swapped=last_norm in parts.values(),
        )
        for name, parts in places.items()
    ]


def text_encoder_layers(family: str, encoder: str, layers: Iterable[str]) -> list[KohyaLayer]:
    """The layers of the text encoder in the folder ``encoder``."""
    number = "" if family == "stable-diffusion" else encoder.partition("text_encoder_")[2] or "1"
    start = f"lora_te{number}_"
    return [
        KohyaLayer(name=start + f"text_model.{layer.removeprefix('text_model.')}".replace(".", "_"), layers=(layer,))
        for layer in layers
    ]


def _last_context_norm(layers: Iterable[str]) -> str:
    """SD3's last block modulates the text's stream by shift and scale, and in diffusers by scale and shift."""
    blocks = [int(found[1]) for found in map(re.compile(r"transformer_blocks\.(\d+)\.").match, layers) if found]
    return f"transformer_blocks.{max(blocks)}.norm1_context.linear" if blocks else ""


def _place(family: str, layer: str, layers_per_block: int) -> tuple[str, int] | None:
    """The other layout's layer, and the position in it."""
    if family == "stable-diffusion":
        return layer, 0
    if family == "stable-diffusion-xl":
        name = _in_own_unet(layer, layers_per_block)
        return (name, 0) if name else None
    block, _, rest = layer.partition(".")
    number, _, inner = rest.partition(".")
    if block not in _BLOCKS[family]:
        return None
    other, table = _BLOCKS[family][block]
    if inner not in table:
        return None
    name, at = table[inner]
    return f"{other}.{number}.{name}", at


def _in_own_unet(layer: str, layers_per_block: int) -> str | None:
    """The name in SDXL's own UNet, whose blocks are counted through."""
    found = re.fullmatch(
        r"(?:(down|up)_blocks\.(\d+)|mid_block)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)", layer
    )
    if not found:
        return None
    side, block, kind, number, rest = found.groups()
    inner = _IN_RESNET.get(rest, rest) if kind == "resnets" else rest
    at = int(number)
    if side is None:
        return f"middle_block.{1 if kind == 'attentions' else 2 * at}.{inner}"
    through = int(block) * (layers_per_block + 1) + at
    if side == "down":
        if kind == "downsamplers":
            return f"input_blocks.{int(block) * (layers_per_block + 1) + layers_per_block + 1}.0.op"
        return f"input_blocks.{1 + through}.{int(kind == 'attentions')}.{inner}"
    if kind == "upsamplers":
        return None  # its place depends on whether the block attends; no adapter learns there
    return f"output_blocks.{through}.{int(kind == 'attentions')}.{inner}"
