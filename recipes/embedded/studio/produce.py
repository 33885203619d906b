"""Builds fruit and vegetables: variety → parts, standing upright around the origin. Knows no scenes."""

import numpy as np

from .noise import field, step
from .shapes import Part, angles, curve, grid_mesh, revolve, tube
from .surfaces import dense, mix, skin
from .varieties import Variety

GREEN = (0.30, 0.46, 0.17)


def _lumpy(grid: np.ndarray, strength: float, frequency: float, rng: np.random.Generator) -> np.ndarray:
    """Return the grid with its points pushed in and out a little, but for the poles' axis."""
    return grid * np.stack([1 + strength * field(grid, frequency, rng)] * 2 + [np.ones(grid.shape[:2])], -1)


def _stem(start: np.ndarray, length: float, radius: float, colour: tuple, rng: np.random.Generator) -> Part:
    t = np.linspace(0, 1, 8)
    lean = rng.normal(size=2) * 0.35 * length
    path = start + np.stack([lean[0] * t**2, lean[1] * t**2, length * t], -1)
    grid = tube(path, radius * (1 + 0.5 * (t - 0.5) ** 2 + 0.35 * (t > 0.85)))
    shade = 1 + 0.15 * rng.normal(size=(8, 4, 1))
    return Part(mesh=grid_mesh(grid), texture=np.clip(np.asarray(colour) * shade, 0, 1), roughness=0.8)


def _body(grid: np.ndarray, texture: np.ndarray, gloss: float) -> Part:
    return Part(mesh=grid_mesh(grid), texture=texture, roughness=0.62 - 0.3 * gloss, clearcoat=0.7 * gloss)


def _dimpled(height: float, taper: float, top: float, bottom: float, rows: int = 72) -> np.ndarray:
    """Return a profile of a ball with a dimple at its top and bottom; its width is about 1."""
    phi = np.linspace(-np.pi / 2, np.pi / 2, rows)
    radius = 0.5 * np.abs(np.cos(phi)) ** 0.9 * (1 + taper * np.sin(phi))
    z = 0.5 * height * np.sin(phi)
    z -= np.where(phi > 0, top * np.exp(-((radius / 0.15) ** 2)), -bottom * np.exp(-((radius / 0.12) ** 2)))
    radius[[0, -1]] = 0
    return np.stack([radius, z], -1)


def apple(variety: Variety, rng: np.random.Generator) -> list[Part]:
    """A dimpled ball, a little wider above, with five faint lobes below and a stem."""
    round_, tall, taper, _ = variety.form
    height = 0.84 + 0.14 * tall if round_ < 0.9 else 0.9
    profile = _dimpled(height, 0.04 + 0.12 * taper, 0.15, 0.08)
    grid = revolve(profile)
    lobes = 0.025 * (1 - 0.8 * round_) * np.cos(5 * angles(grid.shape[1])) * step(-profile[:, 1:], 0.1, 0.3)
    grid[..., :2] *= (1 + lobes)[..., None]
    grid = _lumpy(grid, 0.012 + 0.012 * (1 - round_), 2.5, rng)
    texture = skin(grid, variety, rng)
    rows = np.linspace(0, 1, texture.shape[0])[:, None] * np.ones(texture.shape[1])
    texture = mix(texture, (0.62, 0.55, 0.2), 0.7 * step(rows, 0.955, 0.03))
    texture = mix(texture, (0.25, 0.18, 0.1), 0.8 * step(-rows, -0.03, 0.015))
    return [_body(grid, texture, 0.75), _stem(np.array([0, 0, profile[-1, 1]]), 0.27, 0.022, (0.33, 0.22, 0.11), rng)]


def pear(variety: Variety, rng: np.random.Generator) -> list[Part]:
    """A round belly and a neck, whose length and width are the variety's."""
    length, width, _, lean = variety.form
    top = 0.98 + 0.42 * length
    neck = 0.15 + 0.07 * width
    belly = 0.40 + 0.06 * (1 - length)
    grid = revolve(
        curve(
            [
                (0, 0.03),
                (0.16, 0.0),
                (belly * 0.86, 0.16),
                (belly, 0.38),
                (belly * 0.84, 0.60),
                (neck + 0.055, 0.60 + (top - 0.6) * 0.42),
                (neck, top - 0.14),
                (neck * 0.72, top - 0.02),
                (0, top),
            ],
            84,
        )
    )
    bend = (0.16 * (lean - 0.5)) * np.clip(grid[..., 2] - 0.5, 0, None) ** 2
    grid = _lumpy(grid, 0.022, 2.2, rng)
    grid[..., 0] += bend
    texture = skin(grid, variety, rng)
    return [_body(grid, texture, 0.3), _stem(grid[-1, 0] - (0, 0, 0.02), 0.26, 0.024, (0.30, 0.20, 0.10), rng)]


def lemon(variety: Variety, rng: np.random.Generator) -> list[Part]:
    """An oval with a nipple at each end."""
    long, fat, tip, _ = variety.form
    r, h, n = 0.40 + 0.05 * fat, 0.52 + 0.10 * long, 0.10 + 0.06 * tip
    grid = revolve(
        curve(
            [
                (0, -h - n),
                (0.06, -h - n * 0.8),
                (0.13, -h + 0.05),
                (r * 0.78, -h * 0.55),
                (r, 0),
                (r * 0.78, h * 0.55),
                (0.12, h),
                (0.07, h + n * 0.6),
                (0, h + n * 0.7),
            ],
            80,
        )
    )
    grid = _lumpy(_lumpy(grid, 0.02, 2.5, rng), 0.007, 17.0, rng)
    return [_body(grid, skin(grid, variety, rng), 0.6)]


def orange(variety: Variety, rng: np.random.Generator) -> list[Part]:
    """A ball with a pored skin and a small green star where the stem was."""
    squat, *_ = variety.form
    grid = revolve(_dimpled(0.90 + 0.1 * squat, 0.0, 0.03, 0.03))
    grid = _lumpy(_lumpy(grid, 0.012, 2.0, rng), 0.006, 20.0, rng)
    texture = skin(grid, variety, rng)
    rows, columns = texture.shape[:2]
    star = np.linspace(0, 1, rows)[:, None] + 0.012 * np.cos(5 * angles(columns))
    return [_body(grid, mix(texture, (0.36, 0.42, 0.16), step(star, 0.962, 0.01)), 0.6)]


def tomato(variety: Variety, rng: np.random.Generator) -> list[Part]:
    """A squat ball with faint ribs, a green star of sepals and a stem."""
    squat, ribs, *_ = variety.form
    profile = _dimpled(0.72 + 0.2 * squat, 0.04, 0.08, 0.03)
    grid = revolve(profile)
    near_top = step(profile[:, 1:], 0.02, 0.3)
    grid[..., :2] *= (1 + 0.05 * ribs * np.cos(round(5 + 3 * ribs) * angles(97)) * near_top)[..., None]
    grid = _lumpy(grid, 0.012, 2.0, rng)
    parts = [_body(grid, skin(grid, variety, rng), 0.95)]
    turn = rng.uniform(0, 6)
    for k in range(5):
        t = np.linspace(0, 1, 9)
        theta = turn + 2 * np.pi * k / 5
        reach = 0.30 * t
        rise = np.interp(reach, profile[36:, 0][::-1], profile[36:, 1][::-1]) + 0.02 + 0.05 * t**2
        leaf = tube(
            np.stack([reach * np.cos(theta), reach * np.sin(theta), rise], -1), 0.048 * np.sin(np.pi * (0.2 + 0.79 * t))
        )
        parts.append(Part(mesh=grid_mesh(leaf), texture=np.full((4, 4, 3), GREEN), roughness=0.7))
    parts.append(_stem(np.array([0, 0, profile[-1, 1]]), 0.2, 0.03, GREEN, rng))
    return parts


def pepper(variety: Variety, rng: np.random.Generator) -> list[Part]:
    """A blocky body with three or four lobes parted by furrows, and a thick green stem."""
    tall, taper, lobes, _ = variety.form
    h = 0.95 + 0.35 * tall
    low = 0.31 + 0.09 * (1 - taper)
    profile = curve(
        [
            (0, 0.07),
            (0.14, 0.0),
            (low, 0.08),
            (0.43, h * 0.45),
            (0.47, h * 0.75),
            (0.38, h * 0.96),
            (0.20, h),
            (0.07, h - 0.09),
            (0, h - 0.12),
        ],
        80,
    )
    grid = revolve(profile, 129)
    count = 3 if lobes < 0.4 else 4
    theta = angles(129) + 0.06 * rng.normal()
    furrow = np.abs(np.sin(count * theta / 2)) ** 0.75
    depth = 0.16 + 0.12 * np.abs(profile[:, 1:] / h - 0.5) * 2
    grid[..., :2] *= (1 - depth + depth * furrow)[..., None] * 1.08
    grid[..., 2] += 0.05 * (furrow - 0.5) * step(profile[:, 1:], h * 0.9, 0.1) - 0.05 * furrow * step(
        -profile[:, 1:], -h * 0.15, 0.1
    )
    grid = _lumpy(grid, 0.018, 2.5, rng)
    texture = skin(grid, variety, rng)
    rows = np.linspace(0, 1, texture.shape[0])[:, None] * np.ones(texture.shape[1])
    texture = mix(texture, GREEN, step(rows, 0.93, 0.02))
    return [_body(grid, texture, 1.0), _stem(np.array([0, 0, h - 0.13]), 0.34, 0.052, GREEN, rng)]


def aubergine(variety: Variety, rng: np.random.Generator) -> list[Part]:
    """A long bulb with a green, pointed cap and a stem; to be laid down."""
    long, fat, bend, _ = variety.form
    h, r = 1.35 + 0.65 * long, 0.33 + 0.10 * fat
    grid = revolve(
        curve(
            [
                (0, 0),
                (r * 0.55, 0.05),
                (r, 0.33 * h),
                (r * 0.86, 0.58 * h),
                (r * 0.6, 0.86 * h),
                (r * 0.42, 0.97 * h),
                (0, h),
            ],
            90,
        )
    )
    grid = _lumpy(grid, 0.015, 2.0, rng)
    grid[..., 0] += 0.22 * (bend - 0.5) * (grid[..., 2] - h / 2) ** 2
    texture = skin(grid, variety, rng)
    edge = np.linspace(0, 1, texture.shape[0])[:, None] - 0.045 * np.abs(np.sin(2.5 * angles(texture.shape[1])))
    texture = mix(texture, GREEN, step(edge, 0.80, 0.012))
    return [_body(grid, texture, 1.0), _stem(grid[-1, 0] - (0, 0, 0.04), 0.24, 0.06, (0.35, 0.45, 0.2), rng)]


def potato(variety: Variety, rng: np.random.Generator) -> list[Part]:
    """An uneven oval with eyes; to be laid down."""
    long, fat, *_ = variety.form
    grid = revolve(curve([(0, -0.6), (0.24, -0.52), (0.40, -0.2), (0.42, 0.15), (0.28, 0.50), (0, 0.6)], 72))
    grid = grid * (0.9 + 0.25 * fat, 0.75 + 0.2 * fat, 1.0 + 0.3 * long)
    grid *= 1 + 0.055 * field(grid, 2.6, rng)[..., None] + 0.012 * field(grid, 9.0, rng)[..., None]
    texture = skin(grid, variety, rng)
    dirt = field(dense(grid), 7.0, rng, 2)
    texture = texture * (1 + 0.07 * dirt[: texture.shape[0], : texture.shape[1], None])
    return [_body(grid, np.clip(texture, 0, 1), 0.0)]
