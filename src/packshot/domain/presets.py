"""A training configuration for a base: what its family cannot do, and defaults where the user says nothing."""

import dataclasses
from collections.abc import Mapping
from difflib import get_close_matches
from enum import StrEnum
from typing import get_type_hints

from packshot.domain.errors import InvalidConfiguration
from packshot.domain.training import Method, MixedPrecision, OptimizerKind, Targets, TrainingConfig

# Families that learn a flow from pictures to noise, which has no signal-to-noise weighting.
FLOW_FAMILIES = frozenset({"stable-diffusion-3", "flux"})

# A learning rate belongs to a method and to the width of a base. Full-size bases take what the reference recipes
# publish, bases of at most SMALL_RESOLUTION pixels what was measured on the bundled one (docs/log.md). There is neither
# for hypernetworks, nor a measurement for textual inversion: those figures are guesses.
SMALL_RESOLUTION = 256
Defaults = Mapping[str, object]
_ADAPTERS: Defaults = {
    "steps": 500,
    "batch_size": 1,
    "learning_rate": 1e-4,
    "rank": 4,
    "targets": Targets.ATTENTION,
}
_FULL_SIZE: Mapping[Method, Defaults] = {
    Method.FULL: {
        "steps": 800,
        "batch_size": 1,
        "learning_rate": 5e-6,
        "token_learning_rate": 5e-6,
        "num_class_images": 200,
    },
    Method.LORA: _ADAPTERS,
    Method.PIVOTAL: _ADAPTERS,
    Method.TEXTUAL_INVERSION: {
        "steps": 3000,
        "batch_size": 1,
        "gradient_accumulation_steps": 4,
        "token_learning_rate": 5e-4,
    },
    Method.HYPERNETWORK: {"steps": 2000, "batch_size": 1, "learning_rate": 5e-5, "rank": 64},
}
_SMALL: Mapping[Method, Defaults] = {
    Method.FULL: {"learning_rate": 1e-4, "token_learning_rate": 1e-4, "snr_gamma": 0.0},
    Method.LORA: {"snr_gamma": 0.0},
    Method.PIVOTAL: {"snr_gamma": 0.0},
    Method.TEXTUAL_INVERSION: {"token_learning_rate": 5e-3, "snr_gamma": 0.0},
    Method.HYPERNETWORK: {"rank": 64, "snr_gamma": 0.0},
}
# What a family's recipes say otherwise at full size, for adapters.
_FULL_SIZE_ADAPTERS_OF: Mapping[str, Defaults] = {
    "stable-diffusion-xl": {"gradient_accumulation_steps": 4, "text_encoder_learning_rate": 5e-6},
    "flux": {
        "gradient_accumulation_steps": 4,
        "mixed_precision": MixedPrecision.BF16,
        "rank": 16,
        "resolution": 512,
    },
}
# Prodigy estimates rates itself; its authors advise to leave it be.
_PRODIGY: Defaults = {"learning_rate": 1.0, "text_encoder_learning_rate": 0.0, "token_learning_rate": 1.0}


def parse_config(
    values: Mapping[str, object], *, base_resolution: int, family: str = "stable-diffusion"
) -> TrainingConfig:
    """A configuration from what a file or the command line says; text is read as the key's type.

    Values that are not given take the defaults of the method at the base's family and native resolution in pixels.

    Raises:
        InvalidConfiguration: an unknown key (near matches are named), a value of the wrong type or range, or one that
            the family does not support.
    """
    types = get_type_hints(TrainingConfig)
    known = [field.name for field in dataclasses.fields(TrainingConfig)]
    for key in values:
        if key not in known:
            near = get_close_matches(key, known, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"known keys: {', '.join(known)}"
            raise InvalidConfiguration(f"unknown configuration key {key!r}; {hint}")
    given = {key: _read(key, value, types[key]) for key, value in values.items()}
    method = given.get("method", TrainingConfig.method)
    assert isinstance(method, Method)
    defaults = _defaults(method, family, base_resolution)
    if given.get("optimizer") is OptimizerKind.PRODIGY:
        defaults |= _PRODIGY
    config = TrainingConfig(**{**defaults, **given})  # type: ignore[arg-type]
    check_supported(config, family)
    return config


def check_supported(config: TrainingConfig, family: str) -> None:
    """Refuse what a family cannot do, before anything of the base is loaded.

    Raises:
        InvalidConfiguration: the message says why.
    """
    if family in FLOW_FAMILIES and config.snr_gamma:
        raise InvalidConfiguration(
            f"snr_gamma is {config.snr_gamma:g}, and {family} learns a flow, for which min-SNR weights are not defined "
            "(its time steps are drawn logit-normal instead); set snr_gamma=0"
        )


def _defaults(method: Method, family: str, base_resolution: int) -> dict[str, object]:
    defaults = dict(_SMALL[method] if base_resolution <= SMALL_RESOLUTION else _FULL_SIZE[method])
    if base_resolution > SMALL_RESOLUTION and method.has_adapters and family in _FULL_SIZE_ADAPTERS_OF:
        defaults |= _FULL_SIZE_ADAPTERS_OF[family]
    if family in FLOW_FAMILIES:
        defaults["snr_gamma"] = 0.0
    return defaults


def _read(key: str, value: object, kind: type) -> object:
    text = str(value).strip()
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if kind is int and float(text) != int(float(text)):
            raise ValueError(text)
        return kind(float(text)) if kind is int else kind(text)
    except (ValueError, KeyError, OverflowError):
        raise InvalidConfiguration(f"{key} is {value!r}; write {_expected(kind)}") from None


def _expected(kind: type) -> str:
    if issubclass(kind, StrEnum):
        return "one of " + ", ".join(kind)
    return {bool: "true or false", int: "a whole number", float: "a number"}[kind]
