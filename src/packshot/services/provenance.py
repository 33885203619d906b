"""Use case of provenance: what a picture file says of itself, and what the workspace knows of it. Needs no model."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from packshot.domain.credentials import Credentials
from packshot.domain.generation import GeneratedImage, Generation
from packshot.imaging.recipe import Inscription, Value, pixel_digest, read_inscription
from packshot.ports import Blobs, Records
from packshot.services.models import Lineage, lineage_of

ReadCredentials = Callable[[bytes], Credentials | None]


class Finding(StrEnum):
    """What a file turned out to be."""

    KNOWN = "known"
    REWRITTEN = "rewritten"
    ELSEWHERE = "elsewhere"
    PIXELS_CHANGED = "pixels-changed"
    RECIPE_CHANGED = "recipe-changed"
    FOREIGN = "foreign"


_EXPLANATIONS = {
    Finding.KNOWN: "this workspace made this very file",
    Finding.REWRITTEN: "this workspace made this picture; the file was written anew, and its pixels are the same",
    Finding.ELSEWHERE: "its recipe is whole and fits its pixels, but this workspace did not make it; a recipe is no "
    "signature, so ask whoever claims to have made it",
    Finding.PIXELS_CHANGED: "its pixels are not those that its recipe was written for: the picture was changed afterwards",
    Finding.RECIPE_CHANGED: "its recipe is not as it was written: it was changed, damaged, or its seal was taken out",
    Finding.FOREIGN: "it holds no recipe of Packshot: something else made it, or its metadata was taken out",
}


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """A finding, with what led to it.

    ``lineage`` is None where the workspace does not know the picture, ``credentials`` where nobody signed it.
    """

    finding: Finding
    explanation: str
    sha256: str
    recipe: dict[str, Value] | None
    recipe_whole: bool
    pixels_whole: bool
    declared_generated: bool
    credentials: Credentials | None
    lineage: Lineage | None

    @property
    def ours(self) -> bool:
        """Whether the workspace made this picture and nobody changed it."""
        return self.finding in {Finding.KNOWN, Finding.REWRITTEN}


def verify(records: Records, blobs: Blobs, data: bytes, read_credentials: ReadCredentials) -> Provenance:
    """Find out what made the picture file ``data``, and whether it is still what was made."""
    sha256 = hashlib.sha256(data).hexdigest()
    inscription = read_inscription(data)
    image = next(iter(records.find(GeneratedImage, sha256=sha256)), None)
    finding = Finding.KNOWN if image else _judge(inscription)
    if finding is Finding.ELSEWHERE and (image := _same_picture(records, blobs, inscription)):
        finding = Finding.REWRITTEN
    known = finding is Finding.KNOWN
    return Provenance(
        finding=finding,
        explanation=_EXPLANATIONS[finding],
        sha256=sha256,
        recipe=inscription.recipe,
        recipe_whole=known or inscription.recipe_whole,
        pixels_whole=known or inscription.pixels_whole,
        declared_generated=inscription.declared_generated,
        credentials=read_credentials(data),
        lineage=lineage_of(records, image.id) if image else None,
    )


def _judge(inscription: Inscription) -> Finding:
    """What a file is that the workspace does not know."""
    if not inscription.has_recipe:
        return Finding.FOREIGN
    if not inscription.recipe_whole:
        return Finding.RECIPE_CHANGED
    return Finding.ELSEWHERE if inscription.pixels_whole else Finding.PIXELS_CHANGED


def _same_picture(records: Records, blobs: Blobs, inscription: Inscription) -> GeneratedImage | None:
    """A picture of the workspace with the same pixels, looked for among those with the same prompt and seed."""
    recipe = inscription.recipe or {}
    prompt, seed = recipe.get("prompt"), recipe.get("seed")
    if not isinstance(prompt, str) or not isinstance(seed, int | None):
        return None
    for generation in records.find(Generation, prompt=prompt):
        for image in records.find(GeneratedImage, generation_id=generation.id, seed=seed):
            if image.sha256 in blobs and pixel_digest(blobs.get(image.sha256)) == inscription.pixels:
                return image
    return None
