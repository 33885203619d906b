"""Several subjects in one picture: where each stands, and what of a prompt is about it. Knows no identifiers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Self

from packshot.domain.errors import InvalidComposition

MAX_SUBJECTS = 4
MIN_SIDE = 0.125  # of the picture: a base draws nothing in less


@dataclass(frozen=True, kw_only=True)
class Box:
    """A part of a picture, its edges as shares of width and height: (0, 0) is the upper left corner, (1, 1) the lower right."""

    left: float
    top: float
    right: float
    bottom: float

    def __post_init__(self) -> None:
        """Check the edges.

        Raises:
            InvalidComposition: an edge outside of the picture, or a box that is empty or too small.
        """
        if not all(math.isfinite(edge) and 0 <= edge <= 1 for edge in self.edges):
            raise InvalidComposition(f"the box {self} leaves the picture; its edges must lie between 0 and 1")
        if self.right - self.left < MIN_SIDE or self.bottom - self.top < MIN_SIDE:
            raise InvalidComposition(
                f"the box {self} is empty or too small; write left, top, right, bottom, with at least {MIN_SIDE} "
                "between opposite edges"
            )

    def __str__(self) -> str:
        return ",".join(f"{edge:g}" for edge in self.edges)

    @classmethod
    def of(cls, edges: tuple[float, float, float, float]) -> Self:
        """The box with the edges left, top, right and bottom."""
        left, top, right, bottom = edges
        return cls(left=left, top=top, right=right, bottom=bottom)

    @property
    def edges(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom."""
        return self.left, self.top, self.right, self.bottom

    def overlaps(self, other: "Box") -> bool:
        """Whether they share more than an edge."""
        return (
            max(self.left, other.left) < min(self.right, other.right) - 1e-9
            and max(self.top, other.top) < min(self.bottom, other.bottom) - 1e-9
        )


@dataclass(frozen=True, kw_only=True)
class PlacedSubject:
    """A subject of a composed picture: its version, the prompt that is about it alone, as that one reads it, and its box."""

    fine_tune_id: str
    resolved_prompt: str
    box: Box


def read_box(text: str) -> Box:
    """``left,top,right,bottom`` as a Box.

    >>> print(read_box("0, 0, 0.5, 1"))
    0,0,0.5,1

    Raises:
        InvalidComposition: not four numbers, or no box.
    """
    try:
        left, top, right, bottom = (float(edge) for edge in text.split(","))
    except ValueError:
        raise InvalidComposition(
            f"{text!r} is no box; write left,top,right,bottom as shares of the picture, for example 0,0,0.5,1"
        ) from None
    return Box.of((left, top, right, bottom))


def layout(num_subjects: int, boxes: Sequence[Box]) -> tuple[Box, ...]:
    """A box for each subject in order of mention: ``boxes``, or equal columns from left to right where there are none.

    Raises:
        InvalidComposition: too many subjects, not a box for each, or boxes that overlap.
    """
    if num_subjects > MAX_SUBJECTS:
        raise InvalidComposition(f"the prompt names {num_subjects} subjects; at most {MAX_SUBJECTS} fit in one picture")
    if not boxes:
        edges = [number / num_subjects for number in range(num_subjects + 1)]
        return tuple(Box.of((left, 0.0, right, 1.0)) for left, right in pairwise(edges))
    if len(boxes) != num_subjects:
        raise InvalidComposition(
            f"{len(boxes)} boxes are given, and the prompt names {num_subjects} subjects; give one box for each, in order "
            "of mention, or none"
        )
    for one, other in combinations(boxes, 2):
        if one.overlaps(other):
            raise InvalidComposition(f"the boxes {one} and {other} overlap; let each place belong to one subject")
    return tuple(boxes)
