"""Reference photos that pass the curation, made on the spot: coloured tiles, one seed per photo."""

from pathlib import Path

import numpy as np
from PIL import Image

RED, GREEN = (200, 60, 50), (70, 180, 60)


def photo(seed: int, colour: tuple[int, int, int] = RED, edge: int = 160) -> Image.Image:
    """A photo of ``colour``: tiles of random brightness, sharp, well exposed, unlike that of any other seed."""
    tiles = np.random.default_rng(seed).uniform(0.55, 1.2, (8, 8, 1))
    pixels = np.clip(tiles * np.array(colour), 0, 255).astype(np.uint8)
    return Image.fromarray(pixels).resize((edge, edge), Image.Resampling.NEAREST)


def save_photo(path: Path, seed: int, colour: tuple[int, int, int] = RED, edge: int = 160) -> None:
    """Keep that ``photo``."""
    photo(seed, colour, edge).save(path)
