"""Builds steaks, minced meat and fish fillets: variety → parts, lying on z = 0. Knows no scenes."""

import numpy as np

from .noise import field, ridges, step
from .shapes import Part, angles, grid_mesh, merged, slab, tube
from .surfaces import dense, marbled, mix
from .varieties import Variety

COLUMNS = 161


def _wobble(theta: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    ring = np.stack([np.cos(theta), np.sin(theta), np.zeros_like(theta)], -1)
    return 1 + strength * field(ring, 1.6, rng, 2)


def steak(variety: Variety, rng: np.random.Generator) -> list[Part]:
    """A thick slice with an uneven outline, a fat rim on one side, marbling, and perhaps a bone or an eye of fat."""
    long, notch, thick, rim = variety.form
    theta = angles(COLUMNS)
    aspect = 1.3 + 0.45 * long
    outline = 0.5 / np.sqrt((np.cos(theta) / aspect) ** 2 + np.sin(theta) ** 2)
    bite = np.exp(-(((np.angle(np.exp(1j * (theta - 0.9)))) / 0.45) ** 2))
    outline = outline * (1 - (0.08 + 0.2 * notch) * bite) * _wobble(theta, 0.05, rng)
    grid = slab(outline, 0.22 + 0.10 * thick, dome=0.15)
    points = dense(grid)
    amount = {"plain": 0.25, "bone": 0.35, "ribeye": 1.0, "fat-cap": 0.15}.get(variety.pattern, variety.amount)
    colours = marbled(points, variety, rng, amount)
    inward = 1 - np.hypot(points[..., 0], points[..., 1]) / np.interp(
        np.linspace(0, 1, points.shape[1]), np.linspace(0, 1, COLUMNS), outline
    )
    edge_theta = angles(points.shape[1])
    faces_back = 0.5 + 0.5 * np.cos(edge_theta - (np.pi / 2 + rim - 0.5))
    width = 0.045 + (0.30 if variety.pattern == "fat-cap" else 0.10 + 0.06 * rim) * faces_back**2
    fat = step(width + 0.025 * field(points, 7.0, rng) - inward, 0, 0.025)
    if variety.pattern == "ribeye":
        x, y = points[..., 0] - 0.22, points[..., 1] - 0.02
        eye = np.abs(np.hypot(x / 1.25, y) - 0.25 - 0.035 * field(points, 3.0, rng))
        seam = step(-eye, -0.030, 0.015) * step(field(points, 3.0, rng), -1.1, 0.4)
        flecks = ridges(field(points, 9.0, rng), 0.24) * step(field(points, 3.5, rng), 0.1, 0.5)
        fat = np.max([fat, seam, 0.9 * flecks, 0.95 * step(-np.hypot(x + 0.55, y + 0.1), -0.10, 0.03)], axis=0)
    colours = mix(colours, np.clip(np.asarray(variety.second) * (1.0, 0.98, 0.95), 0, 1), 0.95 * fat)
    if variety.pattern == "bone":
        x, y = points[..., 0] + 0.42 * aspect * 0.5, points[..., 1] - 0.22
        away = np.hypot(x / 1.6, y) + 0.01 * field(points, 6.0, rng)
        colours = mix(colours, (0.93, 0.89, 0.80), step(-away, -0.115, 0.012))
        colours = mix(colours, (0.72, 0.45, 0.40), 0.8 * step(-away, -0.06, 0.012))
    return [Part(mesh=grid_mesh(grid), texture=np.clip(colours, 0, 1), roughness=0.38, clearcoat=0.35)]


def _rounded(theta: np.ndarray, half_x: float, half_y: float, power: float = 6.0) -> np.ndarray:
    """Return the radius per angle of a rectangle with round corners."""
    return (np.abs(np.cos(theta) / half_x) ** power + np.abs(np.sin(theta) / half_y) ** power) ** (-1 / power)


def minced(variety: Variety, rng: np.random.Generator) -> list[Part]:
    """A heap of strands, as they leave the mincer; two thirds of the varieties lie on a tray."""
    tray, flat, long, _ = variety.form
    half_x, half_y, height = 0.62 + 0.1 * long, 0.42, 0.26 + 0.14 * (1 - flat)
    lift = 0.10 if tray < 0.66 else 0.0
    strands = []
    for _k in range(170):
        where = rng.uniform(-1, 1, 2) * (half_x, half_y)
        t = np.linspace(-0.5, 0.5, 9)
        heading = rng.normal(0, 0.5) + (0.0 if rng.random() < 0.75 else 1.2)
        length = rng.uniform(0.3, 0.55)
        x = where[0] * 0.8 + length * t * np.cos(heading) + 0.05 * np.sin(7 * t + rng.uniform(0, 6))
        y = where[1] * 0.85 + length * t * np.sin(heading) + 0.05 * np.sin(6 * t + rng.uniform(0, 6))
        x, y = np.clip(x, -half_x, half_x), np.clip(y, -half_y, half_y)
        mound = np.clip(1 - (x / half_x) ** 4 * 0.6 - (y / half_y) ** 2 * 0.75, 0.0, 1) * height
        z = lift + 0.045 + mound * rng.uniform(0.72, 1.0) + 0.015 * rng.normal()
        strands.append(
            grid_mesh(tube(np.stack([x, y, np.broadcast_to(z, x.shape)], -1), np.full(9, rng.uniform(0.036, 0.05)), 9))
        )
    base = np.asarray(variety.base) * (1 + 0.10 * rng.normal(size=(48, 1, 1)))
    fat = (
        np.where(rng.random((48, 24)) < 0.08 + 0.14 * variety.amount, 0.8, 0.0)
        + (rng.random((48, 1)) < 0.08 + 0.12 * variety.amount) * 0.8
    )
    texture = mix(base * np.ones((48, 24, 1)), variety.second, fat)
    heap = Part(mesh=merged(strands, 48), texture=np.clip(texture, 0, 1), roughness=0.35, clearcoat=0.3)
    core = slab(_rounded(angles(97), half_x * 0.92, half_y * 0.9, 3), height * 0.75, dome=0.7) + np.array([0, 0, lift])
    parts = [heap, Part(mesh=grid_mesh(core), texture=np.full((2, 2, 3), np.asarray(variety.base) * 0.7))]
    if tray < 0.66:
        colour = (0.93, 0.93, 0.92) if tray < 0.4 else (0.10, 0.10, 0.11)
        theta = angles(129)
        rings = [
            (0.0, 0.0),
            (0.85, 0.0),
            (1.06, 0.17),
            (1.11, 0.18),
            (1.11, 0.20),
            (1.05, 0.20),
            (0.86, 0.05),
            (0.0, 0.05),
        ]
        reach = _rounded(theta, half_x * 1.12, half_y * 1.18)
        rows = [
            np.stack([s * reach * np.cos(theta), s * reach * np.sin(theta), np.full_like(theta, z)], -1)
            for s, z in rings
        ]
        parts.append(
            Part(mesh=grid_mesh(np.repeat(np.stack(rows), 1, 0)), texture=np.full((2, 2, 3), colour), roughness=0.5)
        )
    return parts


def fillet(variety: Variety, rng: np.random.Generator) -> list[Part]:
    """A long side of fish that narrows to the tail, with chevrons of fat or a plain flesh, and a grey skin below."""
    long, taper, thick, _ = variety.form
    theta = angles(COLUMNS)
    half_x, half_y = 0.74 + 0.16 * long, 0.38
    x = np.cos(theta) / half_x
    narrow = 1 - (0.30 + 0.25 * taper) * step(np.cos(theta), 0.45, 1.1)
    outline = (np.abs(x) ** 2.6 + np.abs(np.sin(theta) / (half_y * narrow)) ** 2.6) ** (-1 / 2.6) * _wobble(
        theta, 0.025, rng
    )
    grid = slab(outline, 0.20 + 0.07 * thick, dome=0.55)
    points = dense(grid)
    colours = np.asarray(variety.base, np.float32) * (1 + 0.05 * field(points, 5.0, rng, 2)[..., None])
    along, across = points[..., 0], np.abs(points[..., 1] - 0.03)
    phase = 2 * np.pi * (along + 0.75 * across + 0.012 * field(points, 4.0, rng)) / (0.125 + 0.06 * variety.scale)
    if variety.pattern == "chevrons":
        colours = mix(colours, variety.second, 0.85 * step(np.cos(phase), 0.62, 0.25))
        colours = mix(colours, variety.second, 0.9 * ridges(points[..., 1] - 0.03, 0.018))
    elif variety.pattern == "tiger":
        back = step(points[..., 1] + 0.03 * np.cos(phase), 0.02, 0.03)
        colours = mix(colours, variety.second, back * (0.45 + 0.5 * step(np.cos(phase * 0.8), 0.0, 0.3)))
    else:
        colours = mix(colours, variety.second, 0.55 * step(-across + 0.03 * field(points, 3.0, rng), -0.07, 0.05))
        colours = mix(colours, variety.second, 0.25 * step(np.cos(phase), 0.7, 0.25))
    colours = mix(colours, (0.42, 0.45, 0.47), step(-points[..., 2], -0.035, 0.02))
    return [Part(mesh=grid_mesh(grid), texture=np.clip(colours, 0, 1), roughness=0.32, clearcoat=0.5)]
