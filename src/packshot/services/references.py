"""Use cases of reference photos: take them in and out, report on them, freeze a set."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from packshot.domain.catalog import Category, check_in_use
from packshot.domain.errors import Conflict, ImageRefused, InvalidInput, NotFound, RefusalReason
from packshot.domain.references import (
    MAX_IMAGES,
    MIN_IMAGES,
    MIN_IMAGES_TO_HOLD_OUT,
    SETTINGS,
    ReferenceImage,
    ReferenceSet,
    Rights,
    check_freezable,
    choose_held_out,
    set_digest,
)
from packshot.domain.training_prompts import class_prompt
from packshot.imaging.curation import check_photo, fingerprint, similar
from packshot.imaging.decode import MAX_FILE_BYTES, decode_mask, decode_reference
from packshot.imaging.folders import Photo
from packshot.ports import Blobs, Judge, Records
from packshot.services.catalog import new_id, now

_Prints = list[tuple[str, str]]  # file name and fingerprint of each accepted photo


@dataclass(frozen=True, kw_only=True)
class CurationReport:
    """The photos of a category, what the next frozen set would hold, and what would make it better."""

    category: Category
    images: tuple[ReferenceImage, ...]
    advice: tuple[str, ...]

    @property
    def accepted(self) -> tuple[ReferenceImage, ...]:
        """The photos that the next frozen set would hold."""
        return tuple(image for image in self.images if image.accepted)

    @property
    def freezable(self) -> bool:
        """Whether a set can be frozen as things stand."""
        return MIN_IMAGES <= len(self.accepted) <= MAX_IMAGES


def add_references(
    records: Records, blobs: Blobs, category: Category, photos: Sequence[Photo], rights: Rights
) -> list[ReferenceImage]:
    """Take in photos: each becomes a record, accepted or refused with its reason.

    The bytes are kept either way, except those of a file that is too large to be read. Of a file that the category
    has already, byte for byte, the record is returned; one that was withdrawn takes part again. Where it was fetched
    from stands in its rights; a refusal because nothing came from there is forgotten when it is offered again.

    Raises:
        InvalidInput: a file cannot be read.
        CategoryRetired: the category is out of use.
    """
    check_in_use(category)
    known = {image.original: image for image in records.find(ReferenceImage, category_id=category.id)}
    for url in {photo.url for photo in photos if photo.url}:
        earlier = known.get(_digest_of_url(url))
        if earlier and earlier.refusal is RefusalReason.UNREACHABLE:
            records.remove(known.pop(earlier.original))
    prints = _prints(blobs, known.values())
    taken: list[ReferenceImage] = []
    for photo in photos:
        original = _digest(photo)
        image = known.get(original)
        if image is None:
            image = _compared(blobs, _examine(blobs, category, photo, original, rights), prints)
            records.add(image)
        elif image.withdrawn:
            image = _compared(blobs, image, prints)
            records.replace(image)
        known[original] = image
        taken.append(image)
    return taken


def _prints(blobs: Blobs, images: Iterable[ReferenceImage]) -> _Prints:
    return [
        (image.file_name, fingerprint(blobs.get(image.image))) for image in images if image.accepted and image.image
    ]


def _digest(photo: Photo) -> str:
    if photo.missing:
        return _digest_of_url(photo.url)
    try:
        with photo.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InvalidInput(f"cannot read {photo.path} ({error.strerror}); nothing of it was taken in") from error


def _digest_of_url(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()


def _examine(blobs: Blobs, category: Category, photo: Photo, original: str, rights: Rights) -> ReferenceImage:
    """A record of ``photo`` by itself, whatever other photos show."""
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
        problem = check_photo(decoded.png)
        if problem:
            raise ImageRefused(problem[0], f"{photo.file_name}: {problem[1]}")
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
        rights=replace(rights, source=" ".join(filter(None, (rights.source, photo.url)))),
        refusal=refusal,
        explanation=explanation,
        added_at=now(),
    )


def _compared(blobs: Blobs, image: ReferenceImage, prints: _Prints) -> ReferenceImage:
    """``image`` beside the accepted photos with ``prints``: it joins them, or is refused as a near-duplicate of one.

    What other photos decided about it before, or a person, no longer counts; a refusal of its own stays.
    """
    if image.refusal not in {None, RefusalReason.NEAR_DUPLICATE, RefusalReason.WITHDRAWN}:
        return image
    print_ = fingerprint(blobs.get(image.image or ""))
    for other, known in prints:
        if similar(print_, known):
            return replace(
                image,
                refusal=RefusalReason.NEAR_DUPLICATE,
                explanation=f"{image.file_name} shows nearly the same picture as {other}; "
                "photograph another view or piece",
            )
    prints.append((image.file_name, print_))
    return replace(image, refusal=None, explanation="")


def remove_references(records: Records, blobs: Blobs, category: Category, names: Sequence[str]) -> list[ReferenceImage]:
    """Take photos, named by id or file name, out of the next set; all of them or none.

    A photo that a frozen set holds is marked as withdrawn, as that set keeps it; any other is forgotten. Photos that
    were refused as near-duplicates of it are compared anew.

    Raises:
        NotFound: the category has no photo of this name, or it is withdrawn already.
        Conflict: several photos have this file name.
    """
    with records.transaction():
        images = records.find(ReferenceImage, category_id=category.id)
        held = {id_ for each in records.find(ReferenceSet, category_id=category.id) for id_ in each.image_ids}
        removed: list[ReferenceImage] = []
        for image in dict.fromkeys(_named(images, name, category) for name in names):
            if image.id in held:
                explanation = "taken out by hand; sets that were frozen with it keep it"
                withdrawn = replace(image, refusal=RefusalReason.WITHDRAWN, explanation=explanation)
                records.replace(withdrawn)
                removed.append(withdrawn)
            else:
                records.remove(image)
                removed.append(image)
        _compare_near_duplicates(records, blobs, category)
    return removed


def _named(images: Sequence[ReferenceImage], name: str, category: Category) -> ReferenceImage:
    found = [image for image in images if name in {image.id, image.file_name} and not image.withdrawn]
    if not found:
        raise NotFound(
            f"{category.path} has no reference photo {name!r} to take out; see them with: "
            f"packshot references check {category.path}"
        )
    if len(found) > 1:
        ids = ", ".join(image.id for image in found)
        raise Conflict(f"{category.path} has {len(found)} reference photos {name!r}; write one of the ids {ids}")
    return found[0]


def _compare_near_duplicates(records: Records, blobs: Blobs, category: Category) -> None:
    """Compare those refused as near-duplicates with the photos that are left, in the order in which they came."""
    images = records.find(ReferenceImage, category_id=category.id)
    refused = [image for image in images if image.refusal is RefusalReason.NEAR_DUPLICATE]
    prints = _prints(blobs, images) if refused else []
    for image in refused:
        records.replace(_compared(blobs, image, prints))


def caption_references(
    records: Records, blobs: Blobs, judge: Judge, category: Category, settings: Sequence[str] = SETTINGS
) -> list[ReferenceImage]:
    """Give each accepted photo without a caption one that names its setting; returns those photos.

    Of ``settings`` the one is taken whose prompt the judge finds nearest to the photo (zero-shot classification,
    Radford et al. 2021, CLIP). What a caption names is learned as the caption's, not as the product's: leave photos
    that all come from one place without (docs/log.md). A frozen set keeps its photo as it was: a new record of the
    same picture takes its place in the next set.

    Raises:
        InvalidInput: no setting, or an empty one.
        CategoryRetired: the category is out of use.
        JudgeUnusable: the judge cannot be loaded.
    """
    check_in_use(category)
    if not settings or not all(setting.strip() for setting in settings):
        raise InvalidInput(f"the settings are {list(settings)}; write at least one, such as 'in a grocery store'")
    bare = [
        image
        for image in records.find(ReferenceImage, category_id=category.id)
        if image.accepted and image.image and not image.caption
    ]
    prompts = [f"{class_prompt(category.class_noun)} {' '.join(setting.split())}" for setting in settings]
    captioned: list[ReferenceImage] = []
    with records.transaction():
        held = {id_ for each in records.find(ReferenceSet, category_id=category.id) for id_ in each.image_ids}
        for image in bare:
            scores = judge.adherence([blobs.get(image.image or "")] * len(prompts), prompts)
            caption = max(zip(scores, prompts, strict=True), key=lambda pair: pair[0])[1]
            if image.id in held:
                explanation = "has a caption now; sets that were frozen with it keep it without"
                records.replace(replace(image, refusal=RefusalReason.WITHDRAWN, explanation=explanation))
                captioned.append(replace(image, id=new_id("ref"), caption=caption, added_at=now()))
                records.add(captioned[-1])
            else:
                captioned.append(replace(image, caption=caption))
                records.replace(captioned[-1])
    return captioned


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
        CategoryRetired: the category is out of use.
    """
    check_in_use(category)
    with records.transaction():
        accepted = check_references(records, category).accepted
        check_freezable(accepted, category.path)
        held_out = choose_held_out(accepted)
        digest = set_digest(accepted, held_out)
        earlier = records.find(ReferenceSet, category_id=category.id)
        if earlier and earlier[-1].digest == digest:
            return earlier[-1]
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
