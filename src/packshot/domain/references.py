"""Reference photos and the frozen sets that training learns from. Does not know how an image is decoded."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from packshot.domain.errors import ReferenceSetRefused, RefusalReason

MIN_IMAGES = 5
MAX_IMAGES = 30
MIN_IMAGES_TO_HOLD_OUT = 8

# Where a photo without a caption may have been taken.
SETTINGS = (
    "in a grocery store",
    "on a wooden table",
    "on a wooden cutting board",
    "on a marble counter",
    "on blue tiles",
    "on green grass",
    "on a checkered tablecloth",
    "in a wicker basket",
    "on a white background",
)


@dataclass(frozen=True, kw_only=True)
class Rights:
    """Where a photo comes from and under which licence it may be used."""

    source: str = ""
    license: str = ""


@dataclass(frozen=True, kw_only=True)
class ReferenceImage:
    """One photo offered for a category: accepted, or refused with a reason.

    ``original`` and ``image`` are blob digests: the bytes as given (of a photo that could not be fetched, its URL), and
    the upright 8-bit RGB PNG made from them (None where decoding failed). ``mask`` is an 8-bit grey PNG of the same size, product = 255.
    """

    id: str
    category_id: str
    file_name: str
    original: str
    image: str | None
    mask: str | None = None
    width: int = 0
    height: int = 0
    caption: str = ""
    rights: Rights = Rights()
    refusal: RefusalReason | None = None
    explanation: str = ""
    added_at: datetime

    @property
    def accepted(self) -> bool:
        """Whether the next frozen set holds it."""
        return self.refusal is None

    @property
    def withdrawn(self) -> bool:
        """Whether it was taken out after a set had been frozen with it."""
        return self.refusal is RefusalReason.WITHDRAWN


@dataclass(frozen=True, kw_only=True)
class ReferenceSet:
    """An immutable, hashed version of a category's accepted photos. ``held_out`` ids are never trained on."""

    id: str
    category_id: str
    version: int
    digest: str
    image_ids: tuple[str, ...]
    held_out_ids: tuple[str, ...]
    frozen_at: datetime


def set_digest(images: Sequence[ReferenceImage], held_out_ids: Sequence[str]) -> str:
    """sha256 over what training can see of a set: pixels, masks, captions, roles. Independent of order."""
    entries = sorted((image.image or "", image.mask or "", image.caption, image.id in held_out_ids) for image in images)
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()


def choose_held_out(images: Sequence[ReferenceImage]) -> tuple[str, ...]:
    """The ids of the photos that evaluation alone sees: one in five from 8 photos up, none below.

    The choice depends on the pixels only, so that the same photos give the same split in any order.
    """
    if len(images) < MIN_IMAGES_TO_HOLD_OUT:
        return ()
    by_digest = sorted(images, key=lambda image: image.image or "")
    return tuple(image.id for image in by_digest[: len(images) // 5])


def check_freezable(accepted: Sequence[ReferenceImage], category_path: str) -> None:
    """Check that the number of accepted photos allows a set.

    Raises:
        ReferenceSetRefused: fewer than 5 or more than 30.
    """
    if len(accepted) < MIN_IMAGES:
        raise ReferenceSetRefused(
            f"{category_path} has {len(accepted)} usable reference photos and needs at least {MIN_IMAGES}; "
            f"add more with: packshot references add {category_path} FOLDER"
        )
    if len(accepted) > MAX_IMAGES:
        raise ReferenceSetRefused(
            f"{category_path} has {len(accepted)} usable reference photos and may have at most {MAX_IMAGES}; "
            f"take the least typical ones out with: packshot references remove {category_path} FILE-NAME"
        )
