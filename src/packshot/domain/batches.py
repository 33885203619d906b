"""A batch: pictures of many categories in many scenes as one piece of work. Does not know how pictures are made."""

from dataclasses import dataclass
from datetime import datetime

from packshot.domain.errors import InvalidInput
from packshot.domain.generation import SamplingSettings
from packshot.domain.variables import Value

MAX_SEED = 2**32 - 1
MAX_PICTURES = 10_000
PICTURES_AT_ONCE = 8
"""So many pictures of an item are made and kept together; what a kill costs at most."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Every category in every scene, ``sampling.num_images`` pictures each; picture ``i`` of each has ``seed + i``.

    ``variables`` are sorted by name; ``own_settings`` are the names of the sampling settings that go before those of
    the templates. The items say which categories and templates.
    """

    id: str
    namespace: str
    sampling: SamplingSettings
    own_settings: tuple[str, ...]
    variables: tuple[tuple[str, Value], ...]
    code_revision: str
    job_id: str
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class BatchItem:
    """One category in one scene; ``number`` counts from 0. Without a ``generation_id`` it failed before it began."""

    id: str
    batch_id: str
    number: int
    category_id: str
    template_id: str
    generation_id: str | None


@dataclass(frozen=True, kw_only=True)
class ItemFailure:
    """Why an item of a batch has not all of its pictures: the name of the error, and its message."""

    id: str
    batch_id: str
    item_id: str
    error: str
    message: str
    created_at: datetime


def check_size(num_categories: int, num_templates: int, sampling: SamplingSettings) -> int:
    """How many pictures a batch asks for.

    Raises:
        InvalidInput: none, more than MAX_PICTURES, or seeds that count up too far.
    """
    num_images = sampling.num_images
    if sampling.seed + num_images > MAX_SEED + 1:
        raise InvalidInput(f"seed {sampling.seed} and {num_images} pictures count up beyond {MAX_SEED}; begin lower")
    if not num_categories or not num_templates:
        raise InvalidInput(f"a batch needs {'a template' if num_categories else 'a category'} at least")
    num_pictures = num_categories * num_templates * num_images
    if num_pictures > MAX_PICTURES:
        raise InvalidInput(
            f"{num_categories} categories x {num_templates} templates x {num_images} are {num_pictures} pictures; "
            f"a batch has at most {MAX_PICTURES}, so ask for several"
        )
    return num_pictures


def portions(num_images: int) -> list[range]:
    """The numbers of an item's pictures that are made together; the same however often work begins anew.

    >>> portions(18)
    [range(0, 8), range(8, 16), range(16, 18)]
    """
    starts = range(0, num_images, PICTURES_AT_ONCE)
    return [range(start, min(start + PICTURES_AT_ONCE, num_images)) for start in starts]
