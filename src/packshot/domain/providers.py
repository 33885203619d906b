"""Other people's image APIs: what each can do, and what a request to one of them may ask. Does not know how they are called."""

import re
from collections.abc import Collection
from dataclasses import dataclass

from packshot.domain.errors import CapabilityMissing, InvalidInput
from packshot.domain.generation import SamplingSettings
from packshot.domain.models import ForeignModel

NAME_PATTERN = r"[a-z][a-z0-9-]{0,31}"
SIZE = "size"
OPTIONAL_SETTINGS = ("seed", "inference_steps", "guidance_scale", "negative_prompt")
"""The sampling settings that an API may take or not; so it is with the size, and every one takes a number of pictures."""

_REFERENCE = re.compile(rf"({NAME_PATTERN})/([!-~]{{1,200}})")
_EDGES = ("width", "height")


@dataclass(frozen=True, kw_only=True)
class Provider:
    """What an image API can do. No ``models`` = any name; ``sizes`` are (width, height) in pixels, None = any size.

    ``settings`` are those of OPTIONAL_SETTINGS that it takes; ``price_per_image`` is in the operator's currency.
    """

    name: str
    models: tuple[str, ...] = ()
    sizes: tuple[tuple[int, int], ...] | None = ()
    settings: tuple[str, ...] = ()
    price_per_image: float = 0.0


def is_foreign(model: str) -> bool:
    """Whether ``model`` is written as PROVIDER/NAME; identifiers hold no slash."""
    return "/" in model


def split_reference(model: str) -> tuple[str, str]:
    """Provider and name in ``PROVIDER/NAME``; the name may hold more slashes.

    Raises:
        InvalidInput: not of that form.
    """
    found = _REFERENCE.fullmatch(model)
    if not found:
        raise InvalidInput(f"{model!r} names no model; write PROVIDER/NAME, for example openai/gpt-image-1")
    return found[1], found[2]


def check_capable(provider: Provider, name: str, sampling: SamplingSettings, given: Collection[str]) -> ForeignModel:
    """The model ``name`` as ``provider`` is to be asked for it, where a caller has ``given`` these of the settings.

    It is told what was given, and the seed wherever it takes one, so that the same request means the same pictures.

    Raises:
        CapabilityMissing: the provider has no such model, or cannot be told a setting or this size.
    """
    reference = f"{provider.name}/{name}"
    if provider.models and name not in provider.models:
        raise CapabilityMissing(f"{provider.name} offers no {name!r}; its models are {', '.join(provider.models)}")
    for setting in OPTIONAL_SETTINGS:
        if setting in given and setting not in provider.settings:
            raise CapabilityMissing(f"{reference} takes no {setting}; leave it out")
    told = [each for each in OPTIONAL_SETTINGS if each in provider.settings and (each in given or each == "seed")]
    if any(getattr(sampling, edge) for edge in _EDGES):
        _check_size(provider, reference, sampling)
        told.append(SIZE)
    return ForeignModel(
        provider=provider.name, name=name, settings=tuple(told), price_per_image=provider.price_per_image
    )


def _check_size(provider: Provider, reference: str, sampling: SamplingSettings) -> None:
    size = (sampling.width, sampling.height)
    if 0 in size:
        raise CapabilityMissing(f"{reference} needs width and height, or neither; they are {size[0]} and {size[1]}")
    if provider.sizes is not None and size not in provider.sizes:
        known = ", ".join(f"{width} x {height}" for width, height in provider.sizes)
        raise CapabilityMissing(
            f"{reference} makes no pictures of {size[0]} x {size[1]} pixels; "
            + (f"its sizes are {known}" if known else "leave the size out")
        )
