"""A training configuration for a base: what its family cannot do, and defaults where the user says nothing."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from typing import cast, get_origin, get_type_hints

from packshot.domain.errors import InvalidConfiguration
from packshot.domain.training import TrainingConfig
from packshot.domain.training_choices import (
    HorizontalFlip,
    LossTarget,
    Method,
    MixedPrecision,
    OptimizerKind,
    Schedule,
    Targets,
)

# Families that learn a flow from pictures to noise, which has no signal-to-noise weighting.
FLOW_FAMILIES = frozenset({"stable-diffusion-3", "flux"})

# A learning rate belongs to a method and to the width of a base. Full-size bases take what the reference recipes
# publish, bases of at most SMALL_RESOLUTION pixels what was measured on the bundled one (docs/log.md). Nothing is
# published for hypernetworks: their figures at full size are guesses, as are all rates that stay on small bases.
SMALL_RESOLUTION = 256

AUTO = "auto"
PRESET = "preset"
_AUTO_STEPS = 2
Defaults = Mapping[str, object]
_ADAPTERS: Defaults = {
    "steps": 500,
    "validation_every_steps": 50,
    "batch_size": 1,
    "learning_rate": 1e-4,
    "rank": 4,
    "targets": Targets.ATTENTION,
}
_FULL_SIZE: Mapping[Method, Defaults] = {
    Method.FULL: {
        "steps": 800,
        "validation_every_steps": 100,
        "batch_size": 1,
        "learning_rate": 5e-6,
        "token_learning_rate": 5e-6,
        "num_class_images": 200,
    },
    Method.LORA: _ADAPTERS,
    Method.PIVOTAL: _ADAPTERS,
    Method.TEXTUAL_INVERSION: {
        "steps": 3000,
        "validation_every_steps": 250,
        "batch_size": 1,
        "gradient_accumulation_steps": 4,
        "token_learning_rate": 5e-4,
    },
    Method.HYPERNETWORK: {
        "steps": 2000,
        "batch_size": 1,
        "learning_rate": 5e-5,
        "rank": 64,
        "validation_every_steps": 250,
    },
}
_SMALL_EVERY: Defaults = {"snr_gamma": 0.0, "horizontal_flip": HorizontalFlip.AUTO}
# What changes a small base's denoiser. A token alone does not, and takes the general defaults.
_SMALL_DENOISER: Defaults = {
    **_SMALL_EVERY,
    "steps": 250,
    "batch_size": 4,
    "prior_weight": 1.4,
    "prior_target": LossTarget.BASE,
    "background_target": LossTarget.BASE,
    "background_weight": 0.9,
    "background_replacement": 0.75,
    "num_class_images": 24,
    "class_inference_steps": 16,
    "class_captions": True,
}
_SMALL: Mapping[Method, Defaults] = {
    Method.FULL: _SMALL_DENOISER,
    Method.LORA: _SMALL_DENOISER,
    Method.PIVOTAL: {**_SMALL_DENOISER, "num_vectors": 4},
    Method.TEXTUAL_INVERSION: {**_SMALL_EVERY, "token_learning_rate": 5e-3},
    Method.HYPERNETWORK: {**_SMALL_DENOISER, "rank": 64},
}
# Rates fall over the steps where their number is known. Where it is chosen they stay, since they have hardly fallen by the one
# that is chosen, and are lower for it.
_SMALL_RATES_FALLING: Mapping[Method, float] = {
    Method.FULL: 3e-4,
    Method.LORA: 5e-3,
    Method.PIVOTAL: 5e-3,
    Method.HYPERNETWORK: 5e-3,
}
_SMALL_RATES_STAYING: Mapping[Method, float] = {
    Method.FULL: 1e-4,
    Method.LORA: 2e-3,
    Method.PIVOTAL: 2e-3,
    Method.HYPERNETWORK: 1e-3,
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


class Preset(StrEnum):
    """How much effort a training is worth; ``standard`` is what a configuration has that says nothing."""

    DRAFT = "draft"
    STANDARD = "standard"
    BEST = "best"


@dataclass(frozen=True, kw_only=True)
class PresetValues:
    """What a preset sets beside the defaults of a method, and where its figures are from."""

    values: Defaults
    source: str


@dataclass(frozen=True, kw_only=True)
class PresetLine:
    """A preset for a method, as the whole configuration that it stands for."""

    method: Method
    preset: Preset
    config: TrainingConfig
    source: str


_OURS = "measured on the bundled base, docs/log.md"
_PUBLISHED = "published reference recipe"
_GUESS = "guess: "


def _choosing(steps: int, **others: object) -> Defaults:
    return {"choose_steps": True, "steps": steps, **others}


_SMALL_PRESETS: Mapping[Preset, PresetValues] = {
    Preset.DRAFT: PresetValues(
        values={"steps": 125, "num_class_images": 16}, source=f"{_GUESS}half the standard steps"
    ),
    Preset.STANDARD: PresetValues(values={}, source=_OURS),
    Preset.BEST: PresetValues(values=_choosing(500), source=f"{_GUESS}the best of twice the standard steps"),
}
_SMALL_TOKEN_PRESETS: Mapping[Preset, PresetValues] = {
    Preset.DRAFT: PresetValues(values={"steps": 100, "num_class_images": 32}, source=f"{_GUESS}half the standard"),
    Preset.STANDARD: PresetValues(values={}, source=_OURS),
    Preset.BEST: PresetValues(values=_choosing(400), source=f"{_GUESS}the best of twice the standard"),
}
_FULL_SIZE_PRESETS: Mapping[Method, Mapping[Preset, PresetValues]] = {
    Method.FULL: {
        Preset.DRAFT: PresetValues(
            values={"steps": 400, "prior_weight": 0.0}, source=f"{_PUBLISHED}: 400 steps without class images"
        ),
        Preset.STANDARD: PresetValues(values={}, source=f"{_PUBLISHED}: 800 steps, 200 class images"),
        Preset.BEST: PresetValues(values=_choosing(1600), source=f"{_GUESS}the best of twice the published steps"),
    },
    Method.TEXTUAL_INVERSION: {
        Preset.DRAFT: PresetValues(values={"steps": 1500}, source=f"{_GUESS}half the published steps"),
        Preset.STANDARD: PresetValues(values={}, source=f"{_PUBLISHED}: 3000 steps"),
        Preset.BEST: PresetValues(values=_choosing(6000), source=f"{_GUESS}the best of twice the published steps"),
    },
    Method.HYPERNETWORK: {
        Preset.DRAFT: PresetValues(values={"steps": 1000}, source=f"{_GUESS}half the standard"),
        Preset.STANDARD: PresetValues(values={}, source=f"{_GUESS}nothing is published or measured"),
        Preset.BEST: PresetValues(values=_choosing(4000), source=f"{_GUESS}the best of twice the standard"),
    },
}
_ADAPTER_PRESETS: Mapping[Preset, PresetValues] = {
    Preset.DRAFT: PresetValues(
        values={"steps": 250, "num_class_images": 32}, source=f"{_GUESS}half the published steps"
    ),
    Preset.STANDARD: PresetValues(values={}, source=f"{_PUBLISHED}: 500 steps at 1e-4"),
    Preset.BEST: PresetValues(
        values=_choosing(1000, rank=16),
        source=f"{_GUESS}the best of twice the published steps, the highest published rank",
    ),
}
_FLUX_BEST = PresetValues(values=_choosing(2000), source=f"{_PUBLISHED}: up to 2000 steps, rank 16")


# The families for which the recipes of a method are published.
_SD = "stable-diffusion"
_PUBLISHED_FOR: Mapping[Method, frozenset[str]] = {
    Method.FULL: frozenset({_SD}),
    Method.LORA: frozenset({_SD, "stable-diffusion-xl", "flux"}),
    Method.PIVOTAL: frozenset(),
    Method.TEXTUAL_INVERSION: frozenset({_SD}),
    Method.HYPERNETWORK: frozenset(),
}


def preset_values(preset: Preset, method: Method, family: str, base_resolution: int) -> PresetValues:
    """What ``preset`` sets beside the defaults of ``method`` at the base's family and native resolution in pixels."""
    if base_resolution <= SMALL_RESOLUTION:
        return (_SMALL_TOKEN_PRESETS if method is Method.TEXTUAL_INVERSION else _SMALL_PRESETS)[preset]
    chosen = _ADAPTER_PRESETS[preset] if method.has_adapters else _FULL_SIZE_PRESETS[method][preset]
    if method.has_adapters and family == "flux" and preset is Preset.BEST:
        chosen = _FLUX_BEST
    if family in _PUBLISHED_FOR[method] or not chosen.source.startswith(_PUBLISHED):
        return chosen
    return PresetValues(values=chosen.values, source=f"{_GUESS}as the {chosen.source}")


def preset_lines(*, base_resolution: int, family: str) -> list[PresetLine]:
    """Every preset of every method for such a base."""
    return [
        PresetLine(
            method=method,
            preset=preset,
            config=parse_config({"method": method, PRESET: preset}, base_resolution=base_resolution, family=family),
            source=preset_values(preset, method, family, base_resolution).source,
        )
        for method in Method
        for preset in Preset
    ]


def parse_config(
    values: Mapping[str, object], *, base_resolution: int, family: str = "stable-diffusion"
) -> TrainingConfig:
    """A configuration from what a file or the command line says; text is read as the key's type.

    Values that are not given take the defaults of the method at the base's family and native resolution in pixels.
    ``steps=auto`` stands for ``choose_steps`` with twice the steps at the most that it stands for otherwise; ``preset`` for the values of a
    ``Preset``, which win over the defaults and lose against the values that are given.

    Raises:
        InvalidConfiguration: an unknown key (near matches are named), a value of the wrong type or range, or one that
            the family does not support.
    """
    types = {**get_type_hints(TrainingConfig), PRESET: Preset}
    known = [*(field.name for field in dataclasses.fields(TrainingConfig)), PRESET]
    for key in values:
        if key not in known:
            near = get_close_matches(key, known, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"known keys: {', '.join(known)}"
            raise InvalidConfiguration(f"unknown configuration key {key!r}; {hint}")
    auto = str(values.get("steps")).strip() == AUTO
    if auto:
        values = {"choose_steps": True, **{key: value for key, value in values.items() if key != "steps"}}
    given = {key: _read(key, value, types[key]) for key, value in values.items()}
    if auto and not given["choose_steps"]:
        raise InvalidConfiguration(
            "steps is auto and choose_steps is false; give steps a number, or leave choose_steps"
        )
    method = given.get("method", TrainingConfig.method)
    preset = given.pop(PRESET, Preset.STANDARD)
    assert isinstance(method, Method)
    assert isinstance(preset, Preset)
    preset_says = preset_values(preset, method, family, base_resolution).values
    choosing = bool({**preset_says, **given}.get("choose_steps"))
    defaults = {**_defaults(method, family, base_resolution, choosing=choosing), **preset_says}
    if auto and "choose_steps" not in defaults:
        defaults["steps"] = _AUTO_STEPS * int(str(defaults.get("steps", TrainingConfig.steps)))
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


def _defaults(method: Method, family: str, base_resolution: int, *, choosing: bool) -> dict[str, object]:
    if base_resolution <= SMALL_RESOLUTION:
        defaults = dict(_SMALL[method])
        rate = (_SMALL_RATES_STAYING if choosing else _SMALL_RATES_FALLING).get(method)
        if rate:
            schedule = Schedule.CONSTANT if choosing else Schedule.COSINE
            defaults |= {"learning_rate": rate, "token_learning_rate": rate, "learning_rate_schedule": schedule}
    else:
        defaults = {"mixed_precision": MixedPrecision.AUTO, **_FULL_SIZE[method]}
        if method.has_adapters:
            defaults |= _FULL_SIZE_ADAPTERS_OF.get(family, {})
    if family in FLOW_FAMILIES:
        defaults["snr_gamma"] = 0.0
    return defaults


def _read(key: str, value: object, kind: type) -> object:
    if get_origin(kind) is tuple:
        return _read_prompts(key, value)
    text = str(value).strip()
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if kind is int and float(text) != int(float(text)):
            raise ValueError(text)
        return kind(float(text)) if kind is int else kind(text)
    except (ValueError, KeyError, OverflowError):
        auto = f", or {AUTO}" if key == "steps" else ""
        raise InvalidConfiguration(f"{key} is {value!r}; write {_expected(kind)}{auto}") from None


def _read_prompts(key: str, value: object) -> tuple[str, ...]:
    texts = value.split("|") if isinstance(value, str) else value
    if not isinstance(texts, list | tuple):
        raise InvalidConfiguration(f"{key} is {value!r}; write a list of prompts, or a text that parts them with |")
    return tuple(text for each in cast("list[object]", texts) if (text := str(each).strip()))


def _expected(kind: type) -> str:
    if issubclass(kind, StrEnum):
        return "one of " + ", ".join(kind)
    return {bool: "true or false", int: "a whole number", float: "a number"}[kind]
