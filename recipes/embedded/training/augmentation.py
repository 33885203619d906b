"""Augmented batches for the networks that look at pictures (05_judge, 07_check). Knows no model and no loss."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.corpus import Corpus

SIZE = 128
GREY = 128 / 127.5 - 1


def to_tensor(pictures: np.ndarray) -> Tensor:
    """uint8 (count, height, width, 3) to (count, 3, height, width) in -1..1."""
    return torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


class Pictures:
    """Draws batches of augmented training pictures: varieties equally often, whatever their number of pictures.

    Of the pictures with masks it cuts a share out, which is ``seen_alone`` on grey, and lays a share,
    ``moved``, over the picture before: the product, or its shape with another picture in it, which makes it ``strange``.
    """

    def __init__(self, corpus: Corpus, indices: np.ndarray, batch: int, *, seen_alone: float = 0.0, moved: float = 0.0,
                 strange: bool = False, keep_tone: bool = False, smallest_crop: float = 0.72) -> None:  # fmt: skip
        self.images = torch.from_numpy(np.array(corpus.images)).permute(0, 3, 1, 2)
        self.masks = torch.from_numpy(np.array(corpus.masks))[:, None]
        self.masked = torch.tensor([row["mask"] for row in corpus.rows])
        self.indices, self.batch, self.seen_alone, self.moved = indices, batch, seen_alone, moved
        self.strange, self.keep_tone, self.smallest_crop = strange, keep_tone, smallest_crop
        names = [(corpus.rows[i]["source"], corpus.rows[i]["class"], corpus.rows[i]["variety"]) for i in indices]
        counts = {name: names.count(name) for name in set(names)}
        weights = np.array([counts[name] ** -0.7 for name in names])
        self.weights = weights / weights.sum()

    def draw(self, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, Tensor]:
        """Positions in the corpus of the shapes, and of what is behind them, and (batch, 3, size, size) in -1..1."""
        chosen = generator.choice(self.indices, self.batch, p=self.weights)
        pictures = self.images[chosen].float() / 127.5 - 1
        masks, masked = self.masks[chosen].float() / 255, self.masked[torch.from_numpy(chosen)]
        kind = torch.from_numpy(generator.random(self.batch))
        alone = masked & (kind < self.seen_alone)
        moved = masked & (kind >= self.seen_alone) & (kind < self.seen_alone + self.moved)
        pictures[alone] = pictures[alone] * masks[alone] + GREY * (1 - masks[alone])
        products = pictures.roll(2, 0) if self.strange else pictures
        pictures[moved] = products[moved] * masks[moved] + pictures.roll(1, 0)[moved] * (1 - masks[moved])
        frames = frame(masks, alone, generator, self.smallest_crop)
        grids = functional.affine_grid(frames, [self.batch, 3, SIZE, SIZE], align_corners=False)
        pictures = functional.grid_sample(pictures, grids, padding_mode="reflection", align_corners=False)
        behind = np.where(moved.numpy(), np.roll(chosen, 1), chosen)
        return chosen, behind, soften(pictures if self.keep_tone else tone(pictures, generator), generator)


def frame(masks: Tensor, alone: Tensor, generator: np.random.Generator, smallest_crop: float) -> Tensor:
    """(batch, 2, 3) affine maps: random crops and mirror images; of a product on grey, its square with a margin."""
    count = len(masks)
    scale = torch.from_numpy(generator.uniform(smallest_crop, 1.0, count)).float()
    shift = torch.from_numpy(generator.uniform(-1, 1, (count, 2))).float() * (1 - scale)[:, None]
    for k in torch.nonzero(alone).flatten().tolist():
        rows, columns = torch.nonzero(masks[k, 0] > 0.5, as_tuple=True)
        if len(rows):
            ends = [(axis.min().item(), axis.max().item() + 1) for axis in (columns, rows)]
            middle = [(low + high) / SIZE - 1 for low, high in ends]
            edge = max(high - low for low, high in ends) / SIZE * 1.2 * generator.uniform(0.9, 1.1)
            scale[k], shift[k] = edge, torch.tensor(middle)
    maps = torch.zeros(count, 2, 3)
    mirror = torch.from_numpy(generator.choice([-1.0, 1.0], count)).float()
    maps[:, 0, 0], maps[:, 1, 1], maps[:, :, 2] = scale * mirror, scale, shift
    return maps


def tone(pictures: Tensor, generator: np.random.Generator) -> Tensor:
    """A little other brightness, contrast and white balance: less than what tells varieties apart."""
    count = len(pictures)
    gain = torch.from_numpy(generator.normal(1, 0.12, (count, 1, 1, 1)) * generator.normal(1, 0.04, (count, 3, 1, 1)))
    lift = torch.from_numpy(generator.normal(0, 0.08, (count, 1, 1, 1)))
    return (pictures * gain.float() + lift.float()).clamp(-1, 1)


def soften(pictures: Tensor, generator: np.random.Generator) -> Tensor:
    """Half of the batch a little less sharp, as generated pictures are."""
    half = len(pictures) // 2
    small = functional.interpolate(
        pictures[:half], size=int(generator.integers(48, 112)), mode="bilinear", antialias=True
    )
    return torch.cat([functional.interpolate(small, size=SIZE, mode="bilinear"), pictures[half:]])
