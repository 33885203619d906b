"""Where in a picture each of its parts has its say, and what it sees of the others. Knows no denoiser and no method.

The parts' predictions are blended by weights (MultiDiffusion, Bar-Tal et al. 2023). A subject sees the picture moved, rim to
rim, so that its box is in the middle, where bases put what they paint. In the first steps, which decide where things
stand, it sees a plain backdrop outside of its box, so that it takes shape inside (the same paper's bootstrapping).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from packshot.diffusion.protocols import Family
from packshot.domain.composition import Box

APART = 0.6  # the share of the steps in which subjects do not see each other
SEAM = 16  # a seam is about one part in so many of the shorter edge wide, and at least three cells


@dataclass(frozen=True, kw_only=True)
class Regions:
    """The parts of a composed picture: one for what the boxes leave over, if they do, then one for each box.

    ``weights`` and ``inside`` are (parts, 1, height, width): how much each part counts in a cell, and how much of the
    cell it sees from the beginning. ``backdrop`` is (1, channels, height, width), latents without noise. ``to_middle``
    is how many cells down and to the right each part sees the picture moved.
    """

    weights: Tensor
    inside: Tensor
    backdrop: Tensor
    to_middle: tuple[tuple[int, int], ...]
    leave_over: bool

    @classmethod
    def of(cls, boxes: Sequence[Box], shape: tuple[int, int, int], base: Family) -> Self:
        """The regions of a picture whose latents have this shape. Weights are soft at edges that are no rim."""
        _, height, width = shape
        radius = max(1, min(height, width) // (2 * SEAM))
        inside = torch.stack([_covered(box, height, width, 0) for box in boxes])[:, None]
        weights = torch.stack([_covered(box, height, width, radius) for box in boxes])[:, None]
        rest = (1 - weights.sum(0, keepdim=True)).clamp(min=0)
        leave_over = bool((rest > 1e-6).any())
        to_middle = [_to_middle(box, height, width) for box in boxes]
        if leave_over:
            to_middle = [(0, 0), *to_middle]
            weights = torch.cat([rest, weights])
            inside = torch.cat([torch.ones_like(rest), inside])
        return cls(
            weights=weights.to(base.device),
            inside=inside.to(base.device),
            backdrop=torch.zeros(1, *shape, device=base.device),
            to_middle=tuple(to_middle),
            leave_over=leave_over,
        )

    def seen(self, picture: Tensor, backdrop: Tensor | None) -> Tensor:
        """(parts, channels, height, width): what each part sees, its box in the middle; with a backdrop nothing else."""
        parts = picture.expand(len(self.weights), -1, -1, -1)
        if backdrop is not None:
            parts = self.inside * parts + (1 - self.inside) * backdrop
        return _moved(parts, self.to_middle)

    def blend(self, predictions: Tensor) -> Tensor:
        """(1, channels, height, width): the parts' predictions, each back in its place, by their weights."""
        back = _moved(predictions, [(-down, -right) for down, right in self.to_middle])
        return (self.weights * back).sum(0, keepdim=True)


def _to_middle(box: Box, height: int, width: int) -> tuple[int, int]:
    """How many cells down and to the right the box has to move to be in the middle."""
    return round((1 - box.top - box.bottom) / 2 * height), round((1 - box.left - box.right) / 2 * width)


def _moved(parts: Tensor, by: Sequence[tuple[int, int]]) -> Tensor:
    return torch.stack([part.roll(cells, dims=(1, 2)) for part, cells in zip(parts, by, strict=True)])


def _covered(box: Box, height: int, width: int, radius: int) -> Tensor:
    """(height, width): the share of each cell that lies in the box, as the mean of its neighbours within ``radius``."""
    return _share(box.top, box.bottom, height, radius)[:, None] * _share(box.left, box.right, width, radius)


def _share(start: float, end: float, length: int, radius: int) -> Tensor:
    cells = torch.arange(length)
    covered = (torch.clamp(cells + 1, max=end * length) - torch.clamp(cells, min=start * length)).clamp(0, 1)
    padded = torch.nn.functional.pad(covered[None], (radius, radius), mode="replicate")
    return torch.nn.functional.avg_pool1d(padded, 2 * radius + 1, stride=1)[0]
