"""Arranges a picture: pieces at rest on a ground, a stage around them, a lamp, a sky, a camera. Knows no renderer.

The camera stands at -y and looks at the group; lengths of the stage are parts of the frame's width at the group.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.distance import cdist

from . import grounds, meat, packaged, produce
from .shapes import Mesh, Part, angles, grid_mesh, rotation, slab
from .varieties import Variety

HALF_TANGENT = np.tan(np.radians(14.0))
SCENES = [
    "a wooden table",
    "a marble counter",
    "green grass",
    "a checkered tablecloth",
    "a white background",
    "blue tiles",
    "a wooden cutting board",
    "a wicker basket",
]
LIGHTS = {
    "natural light": ((1.0, 0.96, 0.90), (0.88, 0.96, 1.06)),
    "warm light": ((1.0, 0.74, 0.45), (0.92, 0.76, 0.58)),
    "cool light": ((0.74, 0.88, 1.0), (0.62, 0.80, 1.05)),
}
LYING = ("lemon", "aubergine", "potato")
WALLS = [
    (0.80, 0.77, 0.72),
    (0.62, 0.66, 0.70),
    (0.86, 0.84, 0.80),
    (0.55, 0.60, 0.52),
    (0.72, 0.62, 0.54),
    (0.40, 0.42, 0.46),
]


@dataclass(frozen=True, kw_only=True)
class Shot:
    """A picture to render: the product's pieces, the stage's parts, the camera, the lamp and the sky (linear RGB)."""

    pieces: list[list[Part]]
    stage: list[Part]
    eye: np.ndarray
    target: np.ndarray
    lamp: np.ndarray
    lamp_size: float
    lamp_radiance: tuple[float, float, float]
    sky: tuple[float, float, float]


def build(variety: Variety, rng: np.random.Generator) -> list[Part]:
    """Return the parts of one piece of a variety."""
    module = {"produce": produce, "meat": meat, "packaged": packaged}[variety.department]
    return getattr(module, variety.class_name)(variety, rng)


def _at_rest(parts: list[Part], variety: Variety, rng: np.random.Generator) -> list[Part]:
    """Return a piece turned as it would come to lie, its lowest point on z = 0, its middle over the origin."""
    name = variety.class_name
    if variety.department == "packaged":
        turn = rotation(rng.uniform(-0.5, 0.5))
    elif variety.department == "meat":
        turn = rotation(rng.normal(0, 0.35) + np.pi * rng.integers(2))
    elif name in LYING or (name == "pear" and rng.random() < 0.2):
        turn = rotation(rng.uniform(-0.6, 0.6) + np.pi / 2 * rng.choice([-1, 1]), np.pi / 2 - 0.05) @ rotation(
            rng.uniform(0, 6.3)
        )
    else:
        lean = {"pear": 0.06, "pepper": 0.12}.get(name, 0.28)
        turn = rotation(rng.uniform(0, 6.3), rng.normal(0, lean), rng.normal(0, lean)) @ rotation(rng.uniform(0, 6.3))
    turned = [part.moved(turn, np.zeros(3)) for part in parts]
    points = np.concatenate([part.mesh.points for part in turned])
    low, high = points.min(0), points.max(0)
    shift = np.array([-(low[0] + high[0]) / 2, -(low[1] + high[1]) / 2, -low[2]])
    return [part.moved(np.eye(3), shift) for part in turned]


def _footprint(parts: list[Part]) -> np.ndarray:
    points = np.concatenate([part.mesh.points for part in parts])[:, :2]
    return points[:: max(len(points) // 450, 1)]


def arrange(variety: Variety, count: int, rng: np.random.Generator) -> list[list[Part]]:
    """Return `count` pieces side by side, none within another, the group centred over the origin."""
    placed, taken = [], np.empty((0, 2))
    for _ in range(count):
        piece = _at_rest(build(variety, rng), variety, rng)
        foot = _footprint(piece)
        heading = rng.normal(0, 0.45 if count < 3 else 0.9) + np.pi * rng.integers(2)
        way, reach = np.array([np.cos(heading), np.sin(heading)]), 0.0
        gap = rng.uniform(0.05, 0.12)
        while len(taken) and cdist(foot + reach * way, taken).min() < gap:
            reach += 0.05
        placed.append([part.moved(np.eye(3), np.array([*(reach * way), 0.0])) for part in piece])
        taken = np.concatenate([taken, foot + reach * way])
    middle = np.array([*((taken.min(0) + taken.max(0)) / 2), 0.0])
    return [[part.moved(np.eye(3), -middle) for part in piece] for piece in placed]


def _camera(points: np.ndarray, elevation: float, fill: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Return eye, target and the frame's width at the target, so that the group fills a part of the frame's width."""
    target = (points.min(0) + points.max(0)) / 2
    back = np.array([0.0, -np.cos(elevation), np.sin(elevation)])
    up = np.array([0.0, np.sin(elevation), np.cos(elevation)])
    width = 2.0 * float(np.ptp(points[:, 0]))
    for _ in range(4):
        eye = target + back * width / (2 * HALF_TANGENT)
        offset = points - eye
        depth = -(offset @ back) * HALF_TANGENT
        across, tall = offset[:, 0] / depth, offset @ up / depth
        target = (
            target
            + up * (tall.max() + tall.min()) / 4 * width
            + np.array([(across.max() + across.min()) / 4 * width, 0, 0])
        )
        width *= max(np.ptp(across) / 2 / fill, np.ptp(tall) / 2 / max(fill, 0.66))
    return target + back * width / (2 * HALF_TANGENT), target, width


def _plane(texture: np.ndarray, z: float, reach: float, period: float, turn: float, roughness: float) -> Part:
    corners = np.array([[-1, -1], [1, -1], [-1, 1], [1, 1]], float) * reach
    cos, sin = np.cos(turn), np.sin(turn)
    uv = corners @ np.array([[cos, sin], [-sin, cos]]) / period
    mesh = Mesh(
        points=np.c_[corners, np.full(4, z)],
        normals=np.tile([0.0, 0.0, 1.0], (4, 1)),
        uv=uv + 7,
        faces=np.array([[0, 1, 2], [1, 3, 2]]),
    )
    return Part(mesh=mesh, texture=texture, roughness=roughness)


def _wall(colour: tuple, width: float) -> Part:
    y, x, z = 3.6 * width, 9 * width, 7 * width
    points = np.array([[-x, y, -width], [x, y, -width], [-x, y, z], [x, y, z]])
    mesh = Mesh(
        points=points,
        normals=np.tile([0.0, -1.0, 0.0], (4, 1)),
        uv=np.array([[0.0, 0], [1, 0], [0, 1], [1, 1]]),
        faces=np.array([[0, 1, 2], [1, 3, 2]]),
    )
    return Part(mesh=mesh, texture=np.full((2, 2, 3), colour), roughness=0.9)


def _blades(width: float, product: np.ndarray, height: float, rng: np.random.Generator) -> Part:
    """Return blades of grass around the group, as triangles in tones of green."""
    roots = rng.uniform(-1.1, 1.1, (5200, 2)) * width
    roots = roots[cdist(roots, product).min(1) > 0.015 * width]
    tall = height * rng.uniform(0.5, 1.2, len(roots))
    lean, turn = rng.normal(0, 0.35, (len(roots), 2)) * tall[:, None], rng.uniform(0, np.pi, len(roots))
    half = np.stack([np.cos(turn), np.sin(turn)], -1) * width * 0.011
    flat = np.zeros((len(roots), 1))
    points = np.stack([np.c_[roots - half, flat], np.c_[roots + half, flat], np.c_[roots + lean, tall]], 1)
    normals = np.tile(np.array([0.0, -0.25, 0.97]), (len(roots) * 3, 1))
    uv = np.repeat(np.stack([rng.random(len(roots)), np.full(len(roots), 0.5)], -1), 3, 0)
    tones = np.array([0.24, 0.46, 0.10]) * rng.uniform(0.6, 1.35, (2, 16, 1)) * (1 + 0.12 * rng.normal(size=(1, 16, 3)))
    return Part(
        mesh=Mesh(points=points.reshape(-1, 3), normals=normals, uv=uv, faces=np.arange(len(roots) * 3).reshape(-1, 3)),
        texture=np.clip(tones, 0, 1),
        roughness=0.7,
    )


def _board(width: float, reach: np.ndarray, rng: np.random.Generator) -> list[Part]:
    """Return a cutting board with its top at z = 0 on a counter."""
    half_x, half_y = max(reach[0] * 1.12 + 0.05, 0.43 * width), max(reach[1] * 1.12 + 0.05, 0.33 * width)
    theta = angles(193)
    outline = ((np.cos(theta) / half_x) ** 10 + (np.sin(theta) / half_y) ** 10) ** -0.1
    thickness = 0.055 * width
    grid = slab(outline, thickness, dome=0.0) - (0, 0, thickness)
    size = 257
    picture = grounds.wood(rng, np.array([0.80, 0.60, 0.38]) * rng.uniform(0.85, 1.1), 1)[:size, :size]
    y, x = np.meshgrid(np.linspace(-1, 1, size), np.linspace(-1, 1, size), indexing="ij")
    groove = np.abs(np.maximum(np.abs(x), 1 - (1 - np.abs(y)) * half_y / half_x) - 0.90) < 0.018
    picture = picture * np.where(groove, 0.72, 1.0)[..., None]
    mesh = grid_mesh(grid)
    uv = np.clip((mesh.points[:, :2] / (half_x, half_y) + 1) / 2, 0, 1)
    board = Part(mesh=replace(mesh, uv=uv), texture=picture, roughness=0.55)
    turn = rotation(rng.normal(0, 0.12))
    counter = [(0.30, 0.31, 0.33), (0.86, 0.85, 0.82), (0.22, 0.24, 0.27), (0.60, 0.63, 0.62)][rng.integers(4)]
    return [
        board.moved(turn, np.zeros(3)),
        _plane(grounds.plain(rng, counter), -thickness, 8 * width, 2 * width, 0.0, 0.35),
    ]


def _basket(width: float, radius: float, wall: float, rng: np.random.Generator) -> list[Part]:
    """Return a round, woven basket with its floor at z = 0 on a pale cloth."""
    r, strands, stakes = radius, 8, 34
    rings = [(0.3, -0.03), (r * 0.98, -0.03), *((r * (1 + 0.16 * t), wall * t) for t in np.linspace(0.1, 1, 6))]
    rim = [(r * 1.16 + 0.035 * width * np.cos(a), wall + 0.03 * width * np.sin(a)) for a in np.linspace(0, np.pi, 7)]
    inner = [(r * (1 + 0.16 * t) - 0.035 * width, wall * t) for t in np.linspace(1, 0, 6)] + [
        (r * 0.5, 0.0),
        (0.0, 0.0),
    ]
    profile = np.array(rings + rim + inner)
    length = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(profile, axis=0).T))])
    where = np.linspace(0, length[-1], 90)
    profile = np.stack([np.interp(where, length, profile[:, axis]) for axis in (0, 1)], -1)
    theta = angles(stakes * 6 + 1)
    bulge = 1 + 0.012 * np.cos(theta * stakes)
    grid = np.stack(
        [
            profile[:, :1] * bulge * np.cos(theta),
            profile[:, :1] * bulge * np.sin(theta),
            np.broadcast_to(profile[:, 1:], (90, len(theta))),
        ],
        -1,
    )
    weave = Part(mesh=grid_mesh(grid), texture=grounds.wicker(rng, stakes, 3 * strands), roughness=0.7)
    cloth = _plane(grounds.plain(rng, (0.82, 0.79, 0.73)), -0.03, 8 * width, 2 * width, 0.0, 0.9)
    return [weave, cloth]


def _stage(scene: str, width: float, points: np.ndarray, rng: np.random.Generator) -> list[Part]:
    """Return the parts of a scene: its ground with what stands on it, and the wall behind."""
    reach, turn = np.abs(points[:, :2]).max(0), rng.uniform(-0.35, 0.35)
    wall = _wall(WALLS[rng.integers(len(WALLS))], width)

    def ground(texture: np.ndarray, period: float, angle: float, roughness: float) -> Part:
        return _plane(texture, 0.0, 8 * width, period * width, angle, roughness)

    match scene:
        case "a wooden table":
            tones = [(0.50, 0.30, 0.16), (0.60, 0.40, 0.22), (0.40, 0.23, 0.13)]
            tone = np.array(tones[rng.integers(3)]) * rng.uniform(0.9, 1.12)
            stage = [ground(grounds.wood(rng, tuple(tone), 4), 1.15, turn, 0.45)]
        case "a marble counter":
            stage = [ground(grounds.marble(rng), 1.3, rng.uniform(0, 6.3), 0.22)]
        case "blue tiles":
            stage = [ground(grounds.tiles(rng), rng.uniform(1.0, 1.3), turn, 0.2)]
        case "a checkered tablecloth":
            stage = [ground(grounds.gingham(rng), rng.uniform(0.5, 0.6), turn, 0.95)]
        case "green grass":
            height = min(0.11 * width, 0.35 * float(np.ptp(points[:, 2])))
            foot = points[points[:, 2] < 0.3 * points[:, 2].max()][:, :2]
            wall = _wall((0.30, 0.42, 0.26), width)
            soil = ground(grounds.grass(rng), 0.9, turn, 0.95)
            stage = [soil, _blades(width, foot[:: max(len(foot) // 400, 1)], height, rng)]
        case "a white background":
            wall = _wall((0.97, 0.97, 0.97), width)
            stage = [ground(grounds.plain(rng, (0.96, 0.96, 0.96)), 2.0, 0.0, 0.9)]
        case "a wooden cutting board":
            stage = _board(width, reach, rng)
        case "a wicker basket":
            radius = float(np.hypot(points[:, 0], points[:, 1]).max()) * 1.04 + 0.04
            stage = _basket(width, radius, min(0.13 * width, 0.35 * float(points[:, 2].max())), rng)
        case _:
            raise ValueError(f"unknown scene {scene!r}; one of {SCENES}")
    return [*stage, wall]


def compose(variety: Variety, scene: str, light: str, count: int, rng: np.random.Generator) -> Shot:
    """Return the shot of `count` pieces of a variety in a scene under a light."""
    pieces = arrange(variety, count, rng)
    points = np.concatenate([part.mesh.points for piece in pieces for part in piece])
    low, high = {"produce": (14, 46), "meat": (34, 60), "packaged": (9, 30)}[variety.department]
    elevation = np.radians(max(rng.uniform(low, high), 30 + rng.uniform(0, 14) if scene == "a wicker basket" else 0))
    wide = 0.10 if variety.department == "meat" or variety.class_name in LYING else 0.0
    fill = rng.uniform(0.47, 0.66) + wide if count == 1 else rng.uniform(0.74, 0.88)
    eye, target, width = _camera(points, elevation, fill)
    nudge = np.array([*(rng.uniform(-0.05, 0.05, 2)), 0.0]) * width
    azimuth, height = np.radians(-90 + rng.choice([-1, 1]) * rng.uniform(15, 95)), np.radians(rng.uniform(44, 68))
    lamp = np.array([np.cos(azimuth) * np.cos(height), np.sin(azimuth) * np.cos(height), np.sin(height)]) * 3 * width
    key, fill_light = LIGHTS[light]
    strength, size = rng.uniform(0.78, 1.0), rng.uniform(0.55, 1.0)
    radiance = strength * np.pi * 9 / (4 * size**2 * np.sin(height))
    ambient = rng.uniform(0.42, 0.54) + (0.10 if scene == "a white background" else 0.0)
    return Shot(
        pieces=pieces,
        stage=_stage(scene, width, points, rng),
        eye=eye + nudge,
        target=target + nudge,
        lamp=lamp,
        lamp_size=size * width,
        lamp_radiance=tuple(float(radiance * c) for c in key),
        sky=tuple(float(ambient * c) for c in fill_light),
    )


def draw_count(department: str, class_name: str, rng: np.random.Generator) -> int:
    """Return how many pieces a picture shows: one heap of minced meat, one or two big things, up to four small ones."""
    if class_name == "minced":
        return 1
    few = department != "produce" or class_name == "aubergine"
    return int(rng.choice([1, 2, 3, 4], p=(0.68, 0.26, 0.06, 0.0) if few else (0.55, 0.24, 0.13, 0.08)))
