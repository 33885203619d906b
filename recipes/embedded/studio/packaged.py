"""Builds cans, jars, bottles, cartons and bags: variety → parts, standing on z = 0. Knows no scenes."""

from itertools import pairwise

import numpy as np

from .labels import paint
from .noise import field
from .shapes import Part, angles, curve, grid_mesh, polyline, revolve
from .surfaces import mix
from .varieties import Variety

STEEL = (0.80, 0.80, 0.82)


def _turned(
    profile: np.ndarray, texture: np.ndarray, roughness: float, metallic: float = 0.0, clearcoat: float = 0.0
) -> Part:
    return Part(
        mesh=grid_mesh(revolve(profile)), texture=texture, roughness=roughness, metallic=metallic, clearcoat=clearcoat
    )


def _flat(colour: tuple) -> np.ndarray:
    return np.broadcast_to(np.asarray(colour, np.float32), (4, 4, 3)).copy()


def can(variety: Variety, rng: np.random.Generator) -> list[Part]:
    """A cylinder with a printed label between two steel rims, and a grooved lid with a tab."""
    tall, *_ = variety.form
    r, h = 0.46, 0.85 + 0.5 * tall
    label = polyline([(r, 0.05), (r, h - 0.05)], 24)
    bottom = polyline(
        [(0, 0.02), (r - 0.05, 0.02), (r - 0.01, 0), (r + 0.015, 0.02), (r + 0.015, 0.05), (r - 0.02, 0.055)], 60
    )
    top = polyline(
        [
            (r - 0.02, h - 0.055),
            (r + 0.015, h - 0.05),
            (r + 0.015, h - 0.005),
            (r - 0.01, h),
            (r - 0.04, h - 0.01),
            (r - 0.045, h - 0.05),
            (r - 0.12, h - 0.05),
            (r - 0.13, h - 0.035),
            (r - 0.2, h - 0.035),
            (r - 0.21, h - 0.05),
            (0, h - 0.05),
        ],
        110,
    )
    tab = np.stack([0.09 * np.cos(angles(33)), 0.14 * np.sin(angles(33))], -1)
    rings = np.stack(
        [
            np.concatenate([s * tab + (0, -0.12), np.full((33, 1), h + z)], -1)
            for s, z in ((1.0, -0.04), (1.0, -0.012), (0.9, -0.008), (0.45, -0.008), (0.4, -0.03))
        ]
    )
    return [
        _turned(label, paint(512, 300, variety), 0.35, 0.0, 0.4),
        _turned(bottom, _flat(STEEL), 0.25, 1.0),
        _turned(top, _flat(STEEL), 0.28, 1.0),
        Part(mesh=grid_mesh(rings), texture=_flat((0.7, 0.7, 0.72)), roughness=0.3, metallic=1.0),
    ]


def jar(variety: Variety, rng: np.random.Generator) -> list[Part]:
    """A glass jar: the glossy body shows what it holds, a label on its front, a lid wider than the neck."""
    tall, squat, content, lid = variety.form
    r, h = 0.42 + 0.06 * squat, 0.85 + 0.35 * tall
    shoulder = polyline(
        [(0, 0.0), (r - 0.05, 0.0), (r, 0.05), (r, h * 0.78), (r - 0.08, h * 0.88), (r - 0.08, h * 0.93)], 120, 0.03
    )
    texture = np.empty((240, 512, 3), np.float32)
    hue = np.array(
        [(0.55, 0.08, 0.08), (0.80, 0.48, 0.08), (0.30, 0.33, 0.10), (0.25, 0.10, 0.20), (0.72, 0.30, 0.08)]
    )[int(content * 4.99)]
    points = np.stack(np.meshgrid(np.linspace(0, 3, 240), np.linspace(0, 6, 512), [0.0], indexing="ij"), -1)[:, :, 0]
    texture[:] = hue * (1 + 0.12 * field(points, 4.0, rng, 2)[..., None])
    length = np.linspace(0, 1, 240)
    texture[length > 0.89] = (0.80, 0.84, 0.84)
    low, high = int(240 * 0.44), int(240 * 0.80)
    label = paint(360, high - low, variety, front=0.52)
    texture[low:high, 76:436] = label
    top = polyline(
        [
            (r - 0.06, h * 0.89),
            (r - 0.035, h * 0.89),
            (r - 0.035, h),
            (r - 0.06, h + 0.015),
            (r - 0.12, h + 0.015),
            (r - 0.13, h + 0.005),
            (0, h + 0.005),
        ],
        60,
    )
    lid_texture = np.broadcast_to(
        np.asarray(variety.second if lid < 0.6 else (0.85, 0.72, 0.35), np.float32), (32, 128, 3)
    ).copy()
    if lid < 0.25:
        checks = (np.arange(32)[:, None] // 4 + np.arange(128)[None] // 4) % 2
        lid_texture = mix(lid_texture, (0.96, 0.95, 0.92), checks.astype(np.float32))
    return [
        _turned(shoulder, np.clip(texture, 0, 1), 0.12, 0.0, 1.0),
        _turned(top, lid_texture, 0.3, 0.3 if lid > 0.6 else 0.0, 0.3),
    ]


def bottle(variety: Variety, rng: np.random.Generator) -> list[Part]:
    """A bottle with a shoulder and a neck, coloured glass or plastic, a label around its body and a cap."""
    tall, shoulder, glass, slim = variety.form
    r, h = 0.30 + 0.06 * (1 - slim), 1.45 + 0.35 * tall
    neck, turn = 0.10 + 0.02 * (1 - slim), 0.52 + 0.16 * shoulder
    colour = np.array(
        [
            (0.10, 0.24, 0.12),
            (0.32, 0.15, 0.05),
            (0.82, 0.86, 0.84),
            (0.93, 0.91, 0.88),
            (0.62, 0.16, 0.10),
            (0.75, 0.62, 0.16),
        ]
    )[int(glass * 5.99)]
    low = polyline([(0, 0.0), (r - 0.04, 0.0), (r, 0.04), (r, h * turn)], 40, 0.03)
    high = curve(
        [
            (r, h * turn),
            (r * 0.96, h * turn + 0.07),
            (neck + 0.06, h * (turn + 0.16)),
            (neck, h * (turn + 0.24)),
            (neck, h * 0.94),
        ],
        50,
    )
    cap = polyline([(neck - 0.01, h * 0.92), (neck + 0.025, h * 0.92), (neck + 0.025, h), (0, h)], 40)
    rows = np.linspace(0, 1, 220)
    texture = np.broadcast_to(colour.astype(np.float32), (220, 512, 3)).copy()
    body = r + h * turn
    first, last = np.searchsorted(rows, (r + h * 0.06) / body), np.searchsorted(rows, (r + h * (turn - 0.06)) / body)
    texture[first:last] = paint(512, int(last - first), variety)
    cap_colour = variety.second if slim < 0.5 else (0.12, 0.12, 0.13)
    return [
        _turned(low, texture, 0.16, 0.0, 1.0),
        _turned(high, _flat(colour), 0.1, 0.0, 1.0),
        _turned(cap, _flat(cap_colour), 0.4),
    ]


def _box_ring(half_x: float, half_y: float, columns: int) -> np.ndarray:
    """Return (columns, 2) around a rectangle with sharp, bevelled corners; each side takes its share of the columns."""
    b = 0.012
    corners = [
        (0, half_y),
        (-half_x + b, half_y),
        (-half_x, half_y - b),
        (-half_x, -half_y + b),
        (-half_x + b, -half_y),
        (half_x - b, -half_y),
        (half_x, -half_y + b),
        (half_x, half_y - b),
        (half_x - b, half_y),
        (0, half_y),
    ]
    path = np.array(corners)
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    where = np.linspace(0, length[-1], columns)
    return np.stack([np.interp(where, length, path[:, axis]) for axis in (0, 1)], -1)


def carton(variety: Variety, rng: np.random.Generator) -> list[Part]:
    """A drinks carton: a box whose front carries the label, with a gabled top and fin, or a flat top with a cap."""
    tall, deep, gable, _ = variety.form
    half_x, half_y, h = 0.37, 0.26 + 0.10 * deep, 1.05 + 0.35 * tall
    ring = _box_ring(half_x, half_y, 257)
    rise = 0.30 if gable > 0.35 else 0.0
    levels = [(1.0, 1.0, 0.0), (1.0, 1.0, h)]
    levels += (
        [(1.0, 0.06, h + rise), (1.0, 0.06, h + rise + 0.10), (0.99, 0.0, h + rise + 0.10)]
        if rise
        else [(0.98, 0.98, h + 0.01), (0.0, 0.0, h + 0.01)]
    )
    levels = [(0.0, 0.0, 0.0), *levels]
    rows = []
    for (x0, y0, z0), (x1, y1, z1) in pairwise(levels):
        for t in (
            np.linspace(0, 1, 14)
            if z1 - z0 > 0.5
            else np.concatenate([[0.001, 0.02], np.linspace(0.1, 0.9, 4), [0.98, 0.999]])
        ):
            rows.append((x0 + (x1 - x0) * t, y0 + (y1 - y0) * t, z0 + (z1 - z0) * t))
    rows = np.array(rows)
    grid = np.concatenate([rows[:, None, :2] * ring, np.broadcast_to(rows[:, 2:, None], (len(rows), 257, 1))], -1)
    side = (rows[:, 2] > 0) & (rows[:, 2] < h)
    share = np.flatnonzero(side)
    height = 300
    label = paint(640, 260, variety, front=half_x / (2 * (half_x + half_y)) * 1.9)
    where = np.interp(np.linspace(0, len(rows) - 1, height), np.arange(len(rows)), rows[:, 2])
    texture = np.broadcast_to(np.asarray(variety.second, np.float32), (height, 640, 3)).copy()
    printed = np.linspace(0, len(rows) - 1, height)
    on_side = (printed >= share[0]) & (printed <= share[-1])
    texture[on_side] = label[np.clip((where[on_side] / h * 259).astype(int), 0, 259)]
    parts = [Part(mesh=grid_mesh(grid), texture=texture, roughness=0.45, clearcoat=0.15)]
    screw = polyline([(0.085, 0.0), (0.085, 0.09), (0, 0.09)], 24)
    if rise:
        lean = np.arctan2(rise, half_y)
        turn = np.array([[1, 0, 0], [0, np.cos(lean), -np.sin(lean)], [0, np.sin(lean), np.cos(lean)]])
        parts.append(
            _turned(screw, _flat(variety.third), 0.4).moved(turn, np.array([0, -half_y * 0.5, h + rise * 0.5]))
        )
    else:
        parts.append(_turned(screw, _flat(variety.third), 0.4).moved(np.eye(3), np.array([half_x * 0.4, 0, h])))
    return parts


def bag(variety: Variety, rng: np.random.Generator) -> list[Part]:
    """A stand-up pouch: oval below, pressed flat to a crimped seal above, a little crumpled."""
    wide, tall, matte, fat = variety.form
    half_x, h, depth = 0.46 + 0.08 * wide, 1.15 + 0.3 * tall, 0.20 + 0.08 * fat
    t = np.concatenate([[0, 0], np.linspace(0, 1, 70)])
    theta = angles(193)
    shape = (
        np.sign(np.cos(theta)) * np.abs(np.cos(theta)) ** 0.75,
        np.sign(np.sin(theta)) * np.abs(np.sin(theta)) ** 0.75,
    )
    thickness = depth * np.clip(
        1.15 * np.sqrt(np.clip(1 - t / 0.90, 0, 1)) * (0.75 + 0.6 * t), 0.02, 1
    ) + 0.008 * np.cos(t * 260) * (t > 0.9)
    width = half_x * (0.97 + 0.05 * np.cos(2 * np.pi * t))
    width[0] = thickness[0] = 0
    grid = np.stack(
        [width[:, None] * shape[0], thickness[:, None] * shape[1], np.broadcast_to(h * t[:, None], (72, 193))], -1
    )
    crumple = 0.022 * field(grid, 4.5, rng, 2) * np.clip(t * (0.95 - t) * 5, 0, 1)[:, None]
    grid[..., 1] += crumple * np.sign(shape[1])
    return [
        Part(
            mesh=grid_mesh(grid),
            texture=paint(640, 320, variety, front=0.46),
            roughness=0.25 + 0.4 * matte,
            clearcoat=0.3 * (1 - matte),
        )
    ]
