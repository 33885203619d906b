"""Colour over a surface: blush, stripes, speckles, russet, marbling, from points in space. Knows no classes."""

import numpy as np
from scipy.ndimage import zoom
from scipy.spatial import cKDTree

from .noise import field, ridges, step
from .varieties import Variety

TEXTURE_ROWS, TEXTURE_COLUMNS = 150, 260


def dense(grid: np.ndarray) -> np.ndarray:
    """Return the points (rows, columns, 3) of the texels that cover a grid."""
    rows, columns = grid.shape[:2]
    factors = (max(TEXTURE_ROWS / rows, 1), max(TEXTURE_COLUMNS / columns, 1), 1)
    return zoom(grid, factors, order=1, grid_mode=False, mode="nearest").astype(np.float32)


def mix(colours: np.ndarray, other: tuple[float, float, float], weight: np.ndarray) -> np.ndarray:
    """Return colours (…, 3) moved towards another colour by a weight (…,) in 0..1."""
    return colours + (np.asarray(other, np.float32) - colours) * np.clip(weight, 0, 1)[..., None]


def skin(grid: np.ndarray, variety: Variety, rng: np.random.Generator) -> np.ndarray:
    """Return the texture of a fruit's skin: the base colour, unevenly ripe, with the variety's pattern on it."""
    points = dense(grid)
    points = points - (points.max((0, 1)) + points.min((0, 1))) / 2
    colours = np.broadcast_to(np.asarray(variety.base, np.float32), points.shape).copy()
    colours *= 1 + 0.05 * field(points, 3.0, rng)[..., None]
    return np.clip(_PATTERNS[variety.pattern](colours, points, variety, rng), 0, 1)


def _plain(colours: np.ndarray, points: np.ndarray, variety: Variety, rng: np.random.Generator) -> np.ndarray:
    return mix(colours, variety.second, 0.35 * step(field(points, 1.8, rng), 0.4, 0.8))


def _blush(colours: np.ndarray, points: np.ndarray, variety: Variety, rng: np.random.Generator) -> np.ndarray:
    side = rng.normal(size=3) * (1, 1, 0.6)
    lit = points @ (side / np.linalg.norm(side)).astype(np.float32)
    lit = lit / np.abs(lit).max() + 0.22 * field(points, 4.0, rng, 2)
    return mix(colours, variety.second, 0.92 * step(lit, 0.55 - variety.amount, 0.35))


def _stripes(colours: np.ndarray, points: np.ndarray, variety: Variety, rng: np.random.Generator) -> np.ndarray:
    """Streaks from stem to base, of uneven width and strength, over a thin wash of the second colour."""
    theta = np.arctan2(points[..., 1], points[..., 0])
    count = 8 + 14 * variety.scale
    ring = np.stack([np.cos(theta), np.sin(theta), 0.22 * points[..., 2]], -1)
    wave = np.cos(theta * round(count) + 1.6 * field(ring, 3.0, rng) + 0.45 * field(points, 5.0, rng))
    uneven = 0.75 * field(ring, 0.75 * count, rng)
    streaks = step(wave * (1.0 - 0.3 * variety.scale) + uneven, 0.75 - 1.2 * variety.amount, 0.30)
    fade = 0.88 + 0.14 * field(points, 2.2, rng)
    wash = 0.55 * max(variety.amount - 0.35, 0) * step(field(points, 1.5, rng), 0, 1.2)
    return mix(mix(colours, variety.second, wash), variety.second, streaks * np.clip(fade, 0, 1))


def _dots(points: np.ndarray, count: int, radius: float, rng: np.random.Generator) -> np.ndarray:
    """Return 1 inside of `count` random dots of about a radius, 0 outside."""
    flat = points.reshape(-1, 3)
    centres = flat[rng.integers(len(flat), size=count)]
    sizes = radius * rng.uniform(0.5, 1.4, count)
    distance, which = cKDTree(centres).query(flat)
    return (1 - step(distance / sizes[which], 0.9, 0.35)).reshape(points.shape[:-1])


def _speckles(colours: np.ndarray, points: np.ndarray, variety: Variety, rng: np.random.Generator) -> np.ndarray:
    size = np.ptp(points.reshape(-1, 3), axis=0).mean()
    dots = _dots(points, int(60 + 130 * variety.scale), size * (0.020 + 0.022 * variety.amount), rng)
    return mix(_plain(colours, points, variety, rng), variety.second, 0.85 * dots)


def _russet(colours: np.ndarray, points: np.ndarray, variety: Variety, rng: np.random.Generator) -> np.ndarray:
    height = points[..., 2] / np.abs(points[..., 2]).max()
    rough = field(points, 6.0, rng, 3) + 0.9 * np.abs(height) ** 2
    return mix(colours, variety.second, 0.85 * step(rough, 0.9 - variety.amount, 0.5))


def _freckled_blush(colours: np.ndarray, points: np.ndarray, variety: Variety, rng: np.random.Generator) -> np.ndarray:
    colours = _blush(colours, points, variety, rng)
    return mix(colours, (0.97, 0.9, 0.6), 0.7 * _dots(points, 260, 0.022, rng))


_PATTERNS = {
    "plain": _plain,
    "blush": _blush,
    "stripes": _stripes,
    "speckles": _speckles,
    "russet": _russet,
    "freckled-blush": _freckled_blush,
}


def marbled(points: np.ndarray, variety: Variety, rng: np.random.Generator, amount: float) -> np.ndarray:
    """Return the colours of raw meat with fat marbling of a strength in 0..1."""
    flat = points * (1, 1, 0.3)
    colours = np.asarray(variety.base, np.float32) * (1 + 0.10 * field(flat, 4.0, rng, 2)[..., None])
    veins = ridges(field(flat, 3.2, rng, 2), 0.05 + 0.13 * amount) * step(
        field(flat, 2.0, rng), -1.6 * amount + 0.5, 0.5
    )
    fine = ridges(field(flat, 8.0, rng), 0.16) * step(field(flat, 3.0, rng), 0.9 - 1.4 * amount, 0.4)
    return mix(colours, variety.second, 0.9 * np.maximum(veins, 0.75 * fine) * min(amount * 1.6, 1))
