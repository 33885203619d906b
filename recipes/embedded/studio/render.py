"""Hands a composed shot to Mitsuba and returns the picture and the product's mask. Knows no products and no captions.

The LLVM variant compiles a kernel for each new structure of a scene, which costs more than rendering does. So every
surface is a `principled` BSDF with all its lobes and a bitmap, the lamp is a mesh, and the world moves around a camera
that never does: one kernel for each number of parts, found in Dr.Jit's cache afterwards (measured: 1.9 → 0.9 s of
processor time a picture, where `scalar_rgb` takes 2.5).
"""

from dataclasses import replace

import drjit as dr
import mitsuba as mi
import numpy as np

from .scenes import Shot
from .shapes import Mesh, Part

FIELD_OF_VIEW = 28.0
DISTANCE = 2.0  # of the target from the camera; the frame is then about 1 wide
APERTURE = 0.012


def start(variant: str) -> None:
    """Choose Mitsuba's variant for this process, on one thread: the program runs several processes instead."""
    mi.set_variant(variant)
    dr.set_thread_count(1)
    mi.set_log_level(mi.LogLevel.Error)


def _linear(srgb: np.ndarray) -> np.ndarray:
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4).astype(np.float32)


def _srgb(linear: np.ndarray) -> np.ndarray:
    x = np.clip(linear, 0, None)
    x = np.where(x > 0.7, 0.7 + 0.3 * (1 - np.exp(-(x - 0.7) / 0.3)), x)
    return np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)


def _smoothed(picture: np.ndarray, reach: float = 0.055) -> np.ndarray:
    """Return the picture (sRGB) without its grain: a bilateral filter of 5 x 5 pixels (Tomasi and Manduchi, 1998)."""
    padded = np.pad(picture, ((2, 2), (2, 2), (0, 0)), mode="edge")
    total, weights = np.zeros_like(picture), np.zeros((*picture.shape[:2], 1))
    for dy, dx in np.ndindex(5, 5):
        other = padded[dy : dy + picture.shape[0], dx : dx + picture.shape[1]]
        near = ((dy - 2) ** 2 + (dx - 2) ** 2) / 2.4
        weight = np.exp(-near - ((other - picture) ** 2).sum(-1, keepdims=True) / (2 * reach**2))
        total += weight * other
        weights += weight
    return total / weights


def _mesh(mesh: Mesh, properties: "mi.Properties") -> "mi.Mesh":
    shape = mi.Mesh("mesh", len(mesh.points), len(mesh.faces), properties, True, True)
    values = mi.traverse(shape)
    values["vertex_positions"] = mesh.points.astype(np.float32).ravel()
    values["vertex_normals"] = mesh.normals.astype(np.float32).ravel()
    values["vertex_texcoords"] = mesh.uv.astype(np.float32).ravel()
    values["faces"] = mesh.faces.astype(np.uint32).ravel()
    values.update()
    return shape


def _shape(part: Part) -> "mi.Mesh":
    bitmap = {
        "type": "bitmap",
        "bitmap": mi.Bitmap(np.ascontiguousarray(_linear(part.texture))),
        "raw": True,
        "wrap_mode": "repeat" if part.mesh.uv.max() > 1.001 else "clamp",
    }
    bsdf = {
        "type": "principled",
        "base_color": bitmap,
        "roughness": part.roughness,
        "metallic": max(part.metallic, 0.001),
        "clearcoat": max(part.clearcoat, 0.001),
        "clearcoat_gloss": 0.85,
        "specular": 0.4,
    }
    properties = mi.Properties()
    properties["bsdf"] = mi.load_dict({"type": "twosided", "inner": bsdf})
    return _mesh(part.mesh, properties)


def _lamp(shot: Shot) -> "mi.Mesh":
    """Return the lamp: a square that shines towards the origin from its front alone."""
    front = -shot.lamp / np.linalg.norm(shot.lamp)
    aside = np.cross(front, [0.0, 0.0, 1.0])
    aside *= shot.lamp_size / np.linalg.norm(aside)
    up = np.cross(aside, front)
    points = np.array([shot.lamp - aside - up, shot.lamp - aside + up, shot.lamp + aside - up, shot.lamp + aside + up])
    properties = mi.Properties()
    properties["bsdf"] = mi.load_dict({"type": "diffuse"})
    properties["emitter"] = mi.load_dict(
        {"type": "area", "radiance": {"type": "rgb", "value": list(shot.lamp_radiance)}}
    )
    faces = np.array([[0, 1, 2], [1, 3, 2]])
    assert np.cross(points[1] - points[0], points[2] - points[0]) @ front > 0
    return _mesh(
        _seen(Mesh(points=points, normals=np.tile(front, (4, 1)), uv=np.zeros((4, 2)), faces=faces), shot), properties
    )


def _seen(mesh: Mesh, shot: Shot) -> Mesh:
    """Return a mesh in the camera's frame: x right, y up, -z ahead, one unit the frame's width at the target."""
    ahead = shot.target - shot.eye
    distance = np.linalg.norm(ahead)
    right = np.cross(ahead, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    axes = np.stack([right, np.cross(right, ahead / distance), -ahead / distance])
    moved = mesh.moved(axes, -axes @ shot.eye)
    return replace(moved, points=moved.points * (DISTANCE / distance))


def _sensor(size: int, filter_name: str, sampler: str) -> dict:
    look = mi.ScalarTransform4f().look_at(origin=[0, 0, 0], target=[0, 0, -1], up=[0, 1, 0])
    return {
        "type": "thinlens",
        "fov": FIELD_OF_VIEW,
        "to_world": look,
        "aperture_radius": APERTURE,
        "focus_distance": DISTANCE,
        "film": {"type": "hdrfilm", "width": size, "height": size, "rfilter": {"type": filter_name}},
        "sampler": {"type": sampler},
    }


def render(shot: Shot, size: int, samples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the picture (size, size, 3) and the product's mask (size, size), both uint8."""
    parts = {f"part{k:02d}": part for k, part in enumerate(part for piece in shot.pieces for part in piece)}
    parts |= {f"stage{k:02d}": part for k, part in enumerate(shot.stage)}
    scene = mi.load_dict(
        {
            "type": "scene",
            "integrator": {"type": "path", "max_depth": 4},
            "sensor": _sensor(size, "gaussian", "multijitter"),
            "mask_sensor": _sensor(size * 2, "box", "independent"),
            "sky": {"type": "constant", "radiance": {"type": "rgb", "value": list(shot.sky)}},
            "lamp": _lamp(shot),
            **{name: _shape(replace(part, mesh=_seen(part.mesh, shot))) for name, part in parts.items()},
        }
    )
    image = np.array(mi.render(scene, sensor=0, spp=samples, seed=seed))[..., :3]
    picture = (_smoothed(np.clip(_srgb(image), 0, 1)) * 255 + 0.5).astype(np.uint8)
    return picture, _mask(scene, size, seed)


def _mask(scene: "mi.Scene", size: int, seed: int) -> np.ndarray:
    """Return how much of each pixel the product's parts cover, from four rays a pixel."""
    integrator = mi.load_dict({"type": "aov", "aovs": "index:shape_index"})
    index = np.array(mi.render(scene, sensor=1, integrator=integrator, spp=1, seed=seed))[..., 0]
    product = np.array([False] + [shape.id().startswith("part") for shape in scene.shapes()], np.float32)
    covered = product[index.astype(int)]
    return (covered.reshape(size, 2, size, 2).mean((1, 3)) * 255 + 0.5).astype(np.uint8)
