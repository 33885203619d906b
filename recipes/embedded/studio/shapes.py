"""Triangle meshes from grids: solids of revolution, slabs, tubes, lofts. Knows no colours and no products.

Rows of a grid run from the bottom to the top of a body (v), columns around it (u); u = 0.5 faces the camera, which
stands at -y. The last column repeats the first.
"""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """Vertices (n, 3), normals (n, 3), texture coordinates (n, 2), faces (m, 3)."""

    points: np.ndarray
    normals: np.ndarray
    uv: np.ndarray
    faces: np.ndarray

    def moved(self, rotation: np.ndarray, shift: np.ndarray) -> "Mesh":
        """Return the mesh rotated about the origin, then shifted."""
        points, normals = self.points @ rotation.T + shift, self.normals @ rotation.T
        return Mesh(points=points, normals=normals, uv=self.uv, faces=self.faces)


@dataclass(frozen=True, kw_only=True)
class Part:
    """A mesh with its texture (h, w, 3; sRGB in 0..1, row 0 at v = 0) and the look of its surface."""

    mesh: Mesh
    texture: np.ndarray
    roughness: float = 0.45
    metallic: float = 0.0
    clearcoat: float = 0.0

    def moved(self, rotation: np.ndarray, shift: np.ndarray) -> "Part":
        """Return the part rotated about the origin, then shifted."""
        mesh = self.mesh.moved(rotation, shift)
        return Part(
            mesh=mesh, texture=self.texture, roughness=self.roughness, metallic=self.metallic, clearcoat=self.clearcoat
        )


def angles(columns: int) -> np.ndarray:
    """Return the angle of each column of a grid; column 0.5 · (columns - 1) looks at the camera."""
    return 2 * np.pi * (np.linspace(0, 1, columns) - 0.5) - np.pi / 2


def grid_mesh(grid: np.ndarray) -> Mesh:
    """Return the mesh of a closed grid (rows, columns, 3) with smooth normals."""
    rows, columns = grid.shape[:2]
    ring = grid[:, :-1]
    du = np.roll(ring, -1, 1) - np.roll(ring, 1, 1)
    normals = np.cross(np.concatenate([du, du[:, :1]], 1), np.gradient(grid, axis=0))
    for pole, inner in ((0, 1), (-1, -2)):
        if np.ptp(grid[pole], axis=0).max() < 1e-6:
            normals[pole] = normals[inner].mean(0)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True) + 1e-12
    a = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
    b, c, d = a + 1, a + columns, a + columns + 1
    faces = np.concatenate([np.stack([a, b, c], -1), np.stack([b, d, c], -1)])
    v, u = np.meshgrid(np.linspace(0, 1, rows), np.linspace(0, 1, columns), indexing="ij")
    return Mesh(
        points=grid.reshape(-1, 3), normals=normals.reshape(-1, 3), uv=np.stack([u, v], -1).reshape(-1, 2), faces=faces
    )


def curve(points: list[tuple[float, float]], rows: int) -> np.ndarray:
    """Return a smooth curve (rows, 2) of (radius, height) through the points."""
    knots = np.array(points, float)
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(knots, axis=0), axis=1))])
    samples = CubicSpline(length, knots)(np.linspace(0, length[-1], rows))
    samples[:, 0] = np.maximum(samples[:, 0], 0)
    samples[[0, -1], 0] = knots[[0, -1], 0]
    return samples


def polyline(points: list[tuple[float, float]], rows: int, bevel: float = 0.012) -> np.ndarray:
    """Return (rows, 2) along straight segments with narrowly bevelled corners; dense rows hold the edges crisp."""
    knots = np.array(points, float)
    path = [knots[0]]
    for before, corner, after in zip(knots, knots[1:], knots[2:], strict=False):
        for end in (before, after):
            way = end - corner
            path.append(corner + way * min(bevel / (np.linalg.norm(way) + 1e-9), 0.45))
    path.append(knots[-1])
    path = np.array(path)
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    where = np.linspace(0, length[-1], rows)
    return np.stack([np.interp(where, length, path[:, axis]) for axis in (0, 1)], -1)


def revolve(profile: np.ndarray, columns: int = 97) -> np.ndarray:
    """Return the grid (rows, columns, 3) of a profile of (radius, height) turned about the z axis."""
    theta = angles(columns)
    radius, height = profile[:, :1], profile[:, 1:]
    return np.stack(
        [radius * np.cos(theta), radius * np.sin(theta), np.broadcast_to(height, (len(profile), columns))], -1
    )


def slab(outline: np.ndarray, thickness: float, dome: float = 0.25, rows: int = 72) -> np.ndarray:
    """Return the grid of a flat body: outline (columns,) is the radius per angle, closed; its bottom lies on z = 0.

    Rows run from the bottom's centre over the edge to the top's centre. `dome` is how much the top falls to its rim.
    """
    theta = angles(len(outline))
    side = max(rows // 5, 6)
    flat = (rows - side) // 2
    turn = np.linspace(-np.pi / 2, np.pi / 2, side)
    edge = min(0.6 * thickness / float(outline.mean()), 0.3)
    reach = np.concatenate(
        [
            np.linspace(0, 1 - edge, flat, endpoint=False),
            1 - edge + edge * np.cos(turn),
            np.linspace(1 - edge, 0, rows - side - flat + 1)[1:],
        ]
    )
    rim = thickness * (1 - dome)
    top = rim + (thickness - rim) * (1 - np.linspace(1, 0, rows - side - flat + 1)[1:] ** 2)
    height = np.concatenate([np.zeros(flat), rim * (np.sin(turn) + 1) / 2, top])
    radius = reach[:, None] * outline
    return np.stack(
        [radius * np.cos(theta), radius * np.sin(theta), np.broadcast_to(height[:, None], radius.shape)], -1
    )


def tube(path: np.ndarray, radius: np.ndarray, columns: int = 11) -> np.ndarray:
    """Return the grid of a tube along a path (n, 3) with a radius (n,) at each point; the ends are closed."""
    path = np.concatenate([path[:1], path, path[-1:]])
    radius = np.concatenate([[1e-4], radius, [1e-4]])
    tangent = np.gradient(path, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True) + 1e-9
    aside = np.array([0.31, 0.94, 0.12]) if abs(tangent[:, 2]).mean() > 0.7 else np.array([0.05, 0.1, 1.0])
    first = np.cross(aside, tangent)
    first /= np.linalg.norm(first, axis=1, keepdims=True) + 1e-9
    second = np.cross(tangent, first)
    theta = angles(columns)[None, :, None]
    ring = np.cos(theta) * first[:, None] + np.sin(theta) * second[:, None]
    return path[:, None] + radius[:, None, None] * ring


def merged(meshes: list[Mesh], rows: int) -> Mesh:
    """Return one mesh of many; mesh k reads its texture in row k of `rows` (its own v is lost)."""
    offsets = np.cumsum([0] + [len(mesh.points) for mesh in meshes[:-1]])
    uv = [
        np.stack([mesh.uv[:, 1], np.full(len(mesh.uv), (k % rows + 0.5) / rows)], -1) for k, mesh in enumerate(meshes)
    ]
    return Mesh(
        points=np.concatenate([mesh.points for mesh in meshes]),
        normals=np.concatenate([mesh.normals for mesh in meshes]),
        uv=np.concatenate(uv),
        faces=np.concatenate([mesh.faces + offset for mesh, offset in zip(meshes, offsets, strict=True)]),
    )


def rotation(yaw: float, pitch: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """Return the matrix (3, 3) that rolls about y, pitches about x, then turns about z (radians)."""
    (cy, sy), (cp, sp), (cr, sr) = ((np.cos(a), np.sin(a)) for a in (yaw, pitch, roll))
    return (
        np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
        @ np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
        @ np.array([[cr, 0, sr], [0, 1, 0], [-sr, 0, cr]])
    )
