"""Loads the parts of a base in the diffusers layout: frozen, complete, from safetensors alone. Knows no family."""

import inspect
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import nn
from transformers import CLIPTokenizer, PreTrainedModel, T5Tokenizer
from transformers.utils import logging as transformers_logging

from packshot.diffusion.floats import shorten
from packshot.diffusion.text_encoders import TextEncoder, Tokenizer
from packshot.domain.errors import BaseModelRefused
from packshot.domain.training_choices import MixedPrecision

M = TypeVar("M", bound=nn.Module)


def load_module(
    kind: type[M],
    folder: Path,
    component: str,
    device: torch.device,
    precision: MixedPrecision = MixedPrecision.NO,
) -> M:
    """The component's module, frozen and in evaluation mode, its weights as passes with ``precision`` need them.

    Raises:
        BaseModelRefused: weights missing or of other shapes than the configuration says.
    """
    options: dict[str, Any] = {"local_files_only": True, "use_safetensors": True, "output_loading_info": True}
    if issubclass(kind, PreTrainedModel):
        options["dtype"] = torch.float32
    with without_progress_bars():
        module, info = cast(Any, kind).from_pretrained(folder / component, **options)
    # diffusers would leave what is missing at random.
    wrong = [*info["missing_keys"], *info["mismatched_keys"]]
    if wrong:
        raise BaseModelRefused(
            f"the weights of the base's {component} lack {wrong[0]!r} or have another shape ({len(wrong)} such); "
            "copy the folder anew"
        )
    module.float()
    shorten(module, precision)
    return module.to(device).eval().requires_grad_(False)


def load_text_encoder(
    kind: type[PreTrainedModel],
    folder: Path,
    number: int,
    device: torch.device,
    precision: MixedPrecision,
    *,
    max_tokens: int | None = None,
) -> TextEncoder:
    """The ``number``-th text encoder (from 1) with its tokenizer; prompts are cut to at most ``max_tokens``.

    What T5 computes is beyond the largest 16-bit float, so it computes in 32 bits instead.
    """
    suffix = f"_{number}" if number > 1 else ""
    tokenizer_folder = folder / f"tokenizer{suffix}"
    is_clip = kind.__name__.startswith("CLIP")
    tokenizer = (CLIPTokenizer if is_clip else T5Tokenizer).from_pretrained(tokenizer_folder, local_files_only=True)
    name = f"text_encoder{suffix}"
    too_large = precision is MixedPrecision.FP16 and not is_clip
    return TextEncoder(
        name=name,
        module=load_module(kind, folder, name, device, MixedPrecision.NO if too_large else precision),
        tokenizer=cast(Tokenizer, tokenizer),
        device=device,
        max_tokens=max_tokens,
        fits_fp16=is_clip,
    )


def read_config(folder: Path, component: str) -> dict[str, object]:
    """The configuration of a scheduler, as the base keeps it."""
    return json.loads((folder / component / "scheduler_config.json").read_text())


def known_to(scheduler: type, config: Mapping[str, object]) -> dict[str, object]:
    """The part of a scheduler's configuration that another scheduler knows too."""
    names = inspect.signature(scheduler.__init__).parameters
    return {key: value for key, value in config.items() if key in names}


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Within the context transformers shows no progress bars."""
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if bars:
            transformers_logging.enable_progress_bar()
