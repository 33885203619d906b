"""Grounds as periodic pictures (sRGB): wood, marble, tiles, grass, cloth, wicker. Knows no products."""

import numpy as np

from .noise import ridges, step, tile

SIZE = 384


def _tinted(colour: tuple, shade: np.ndarray) -> np.ndarray:
    return np.clip(np.asarray(colour, np.float32) * shade[..., None], 0, 1)


def wood(rng: np.random.Generator, colour: tuple[float, float, float], planks: int) -> np.ndarray:
    """Planks along x, each of its own tone, with stretched grain and dark joints; 1 plank is a single board."""
    rows = np.arange(SIZE) * planks // SIZE
    tone = 1 + 0.13 * rng.normal(size=planks)[rows][:, None]
    grain = tile(SIZE, 0.7, 0.05, rng, 2.4)
    rings = np.cos(2 * np.pi * (6 * np.arange(SIZE)[:, None] / SIZE + 0.45 * tile(SIZE, 1.2, 0.35, rng, 3.5)))
    shade = tone * (1 + 0.09 * grain + 0.07 * rings)
    if planks > 1:
        joint = (np.arange(SIZE) * planks % SIZE) < 0.04 * SIZE
        shade[joint] *= 0.55
    return _tinted(colour, shade)


def marble(rng: np.random.Generator) -> np.ndarray:
    """White stone with grey veins."""
    base = tile(SIZE, 0.6, 0.6, rng, 2.6)
    veins = ridges(tile(SIZE, 0.45, 0.8, rng, 2.4), 0.07) * step(tile(SIZE, 0.8, 0.8, rng, 3), -0.3, 0.8)
    return np.clip(np.array([0.90, 0.90, 0.89]) * (1 + 0.03 * base - 0.42 * veins)[..., None], 0, 1)


def tiles(rng: np.random.Generator) -> np.ndarray:
    """Four by four glazed blue tiles with pale joints."""
    cell = SIZE // 4
    hue = np.array([0.13, 0.36, 0.66]) * (1 + 0.06 * rng.normal(size=3))
    tones = np.kron(1 + 0.14 * rng.normal(size=(4, 4)), np.ones((cell, cell)))
    within = np.arange(SIZE) % cell
    joint = (np.minimum(within, cell - within) < 0.035 * cell).astype(float)
    joint = np.maximum(joint[:, None], joint[None])
    glaze = _tinted(hue, tones * (1 + 0.05 * tile(SIZE, 0.3, 0.3, rng)))
    return glaze * (1 - joint[..., None]) + np.array([0.80, 0.82, 0.82]) * joint[..., None]


def grass(rng: np.random.Generator) -> np.ndarray:
    """Dark and light green patches, for the soil below the blades."""
    shade = 1 + 0.22 * tile(SIZE, 0.25, 0.25, rng, 1.6)
    return _tinted((0.16, 0.34, 0.08), np.clip(shade, 0.3, 2))


def gingham(rng: np.random.Generator) -> np.ndarray:
    """A checkered cloth: white, half and full checks of one colour; four by four cells."""
    colours = np.array([(0.78, 0.10, 0.12), (0.78, 0.10, 0.12), (0.12, 0.27, 0.62), (0.13, 0.45, 0.25)])
    colour = colours[rng.integers(len(colours))]
    cell = SIZE // 4
    band = (np.arange(SIZE) // cell % 2).astype(float)
    weight = 0.5 * (band[:, None] + band[None])
    cloth = np.array([0.95, 0.94, 0.91]) * (1 - weight[..., None]) + colour * weight[..., None]
    return np.clip(cloth * (1 + 0.03 * tile(SIZE, 0.02, 0.02, rng, 1))[..., None], 0, 1)


def plain(rng: np.random.Generator, colour: tuple[float, float, float]) -> np.ndarray:
    """One colour with a trace of unevenness."""
    return _tinted(colour, 1 + 0.012 * tile(SIZE, 0.4, 0.4, rng, 3))


def wicker(rng: np.random.Generator, columns: int, rows: int) -> np.ndarray:
    """A weave: strands that pass over and under stakes; (rows · 16, columns · 16, 3)."""
    y, x = np.meshgrid(np.arange(rows * 16) / 16, np.arange(columns * 16) / 16, indexing="ij")
    over = (x.astype(int) + y.astype(int)) % 2
    bulge = np.abs(np.sin(np.pi * y)) ** 0.6 * (0.45 + 0.55 * np.where(over == 1, np.abs(np.sin(np.pi * x)), 0.25))
    tone = 1 + 0.12 * rng.normal(size=(rows, columns))[y.astype(int), x.astype(int)]
    return _tinted((0.72, 0.48, 0.25), (0.3 + 0.85 * bulge) * tone)
