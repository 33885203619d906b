"""Use cases of reference photos: take them in, report on them, freeze a set."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from packshot.domain.catalog import Category
from packshot.domain.errors import Conflict, ImageRefused, InvalidInput, NotFound, RefusalReason
from packshot.domain.references import (
    MAX_IMAGES,
    MIN_IMAGES,
    MIN_IMAGES_TO_HOLD_OUT,
    ReferenceImage,
    ReferenceSet,
    Rights,
    check_freezable,
    choose_held_out,
    set_digest,
)
from packshot.imaging.curation import check_photo, fingerprint, similar
from packshot.imaging.decode import MAX_FILE_BYTES, decode_mask, decode_reference
from packshot.imaging.folders import Photo
from packshot.ports import Blobs, Records
from packshot.services.catalog import new_id, now


@dataclass(frozen=True, kw_only=True)
class CurationReport:
    """The photos of a category, what the next frozen set would hold, and what would make it better."""

    category: Category
    images: tuple[ReferenceImage, ...]
    advice: tuple[str, ...]

    @property
    def accepted(self) -> tuple[ReferenceImage, ...]:
        """The photos that a frozen set may hold."""
        return tuple(image for image in self.images if image.accepted)

    @property
    def freezable(self) -> bool:
        """Whether a set can be frozen as things stand."""
        return MIN_IMAGES <= len(self.accepted) <= MAX_IMAGES


def add_references(
    records: Records, blobs: Blobs, category: Category, photos: Sequence[Photo], rights: Rights
) -> list[ReferenceImage]:
    """Take in photos: each becomes a record, accepted or refused with its reason.

    The bytes are kept either way, except those of a file that is too large to be read. A file that the category has
    already, byte for byte, is not taken in again: its record is returned.

    Raises:
        InvalidInput: a file cannot be read.
    """
    known = {image.original: image for image in records.find(ReferenceImage, category_id=category.id)}
    prints = [
        (image.file_name, fingerprint(blobs.get(image.image)))
        for image in known.values()
        if image.accepted and image.image
    ]
    taken: list[ReferenceImage] = []
    for photo in photos:
        original = _digest(photo)
        if original not in known:
            known[original] = _examine(blobs, category, photo, original, rights, prints)
            records.add(known[original])
        taken.append(known[original])
    return taken


def _digest(photo: Photo) -> str:
    try:
        with photo.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InvalidInput(f"cannot read {photo.path} ({error.strerror}); nothing of it was taken in") from error


def _examine(
    blobs: Blobs, category: Category, photo: Photo, original: str, rights: Rights, prints: list[tuple[str, str]]
) -> ReferenceImage:
    """A record of ``photo``; when it is accepted, its fingerprint joins ``prints``."""
    image_digest = mask_digest = None
    width = height = 0
    refusal: RefusalReason | None = None
    explanation = ""
    try:
        data = photo.data
        if len(data) <= MAX_FILE_BYTES:
            original = blobs.put(data)
        decoded = decode_reference(data, photo.file_name)
        width, height = decoded.width, decoded.height
        drawn = photo.mask
        mask = decode_mask(drawn, (width, height), f"the mask of {photo.file_name}") if drawn else decoded.alpha_mask
        image_digest = blobs.put(decoded.png)
        mask_digest = blobs.put(mask) if mask else None
        _check_quality(decoded.png, photo.file_name, prints)
    except ImageRefused as error:
        refusal, explanation = error.reason, str(error)
    return ReferenceImage(
        id=new_id("ref"),
        category_id=category.id,
        file_name=photo.file_name,
        original=original,
        image=image_digest,
        mask=mask_digest,
        width=width,
        height=height,
        caption=photo.caption,
        rights=rights,
        refusal=refusal,
        explanation=explanation,
        added_at=now(),
    )


def _check_quality(png: bytes, file_name: str, prints: list[tuple[str, str]]) -> None:
    problem = check_photo(png)
    if problem:
        raise ImageRefused(problem[0], f"{file_name}: {problem[1]}")
    print_ = fingerprint(png)
    for other, known in prints:
        if similar(print_, known):
            raise ImageRefused(
                RefusalReason.NEAR_DUPLICATE,
                f"{file_name} shows nearly the same picture as {other}; photograph another view or piece",
            )
    prints.append((file_name, print_))


def remove_reference(records: Records, category: Category, file_name: str) -> ReferenceImage:
    """Forget a photo that no frozen set holds.

    Raises:
        NotFound: the category has no photo of this name.
        Conflict: a frozen set holds it.
    """
    found = records.find(ReferenceImage, category_id=category.id, file_name=file_name)
    if not found:
        raise NotFound(f"{category.path} has no reference photo {file_name!r}")
    if any(found[-1].id in each.image_ids for each in records.find(ReferenceSet, category_id=category.id)):
        raise Conflict(f"{file_name} belongs to a frozen set, which never changes; it stays")
    records.remove(found[-1])
    return found[-1]


def check_references(records: Records, category: Category) -> CurationReport:
    """The curation report of ``category``."""
    images = tuple(records.find(ReferenceImage, category_id=category.id))
    accepted = [image for image in images if image.accepted]
    advice: list[str] = []
    if len(accepted) < MIN_IMAGES:
        advice.append(f"{len(accepted)} usable photos; at least {MIN_IMAGES} are needed, 10 to 20 work best")
    elif len(accepted) < MIN_IMAGES_TO_HOLD_OUT:
        advice.append(
            f"fewer than {MIN_IMAGES_TO_HOLD_OUT} photos: none is held out, so evaluation has the training photos alone"
        )
    if len(accepted) > MAX_IMAGES:
        advice.append(f"{len(accepted)} usable photos; remove the least typical until {MAX_IMAGES} are left")
    if accepted and not all(image.rights.license for image in accepted):
        advice.append("no licence is noted for some photos; add them with --source and --license")
    return CurationReport(category=category, images=images, advice=tuple(advice))


def freeze_references(records: Records, category: Category) -> ReferenceSet:
    """An immutable version of the accepted photos; the newest one is returned when nothing has changed since.

    Raises:
        ReferenceSetRefused: fewer than 5 or more than 30 accepted photos.
    """
    with records.transaction():
        accepted = check_references(records, category).accepted
        check_freezable(accepted, category.path)
        held_out = choose_held_out(accepted)
        digest = set_digest(accepted, held_out)
        earlier = records.find(ReferenceSet, category_id=category.id)
        same = [each for each in earlier if each.digest == digest]
        if same:
            return same[-1]
        frozen = ReferenceSet(
            id=new_id("set"),
            category_id=category.id,
            version=len(earlier) + 1,
            digest=digest,
            image_ids=tuple(image.id for image in accepted),
            held_out_ids=held_out,
            frozen_at=now(),
        )
        records.add(frozen)
    return frozen
