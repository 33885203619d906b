"""Paints the printed label of a package: bands, one big shape, lines of pseudo-text. Knows no meshes.

A label is laid out once around the package: the front is its middle, the back carries text and a bar code, so that no
view repeats another.
"""

import numpy as np
from PIL import Image, ImageDraw

from .varieties import Colour, Variety


def _ink(colour: Colour) -> tuple[int, int, int]:
    return tuple(round(255 * c) for c in colour)


def _readable_on(colour: Colour) -> tuple[int, int, int]:
    return (30, 28, 32) if np.dot(colour, (0.3, 0.59, 0.11)) > 0.5 else (248, 246, 240)


def _text(
    draw: ImageDraw.ImageDraw,
    centre: float,
    top: float,
    width: float,
    lines: int,
    size: float,
    ink: tuple[int, int, int],
    rng: np.random.Generator,
) -> None:
    """Draw lines of word-like blocks, centred."""
    for line in range(lines):
        reach = width * rng.uniform(0.65, 1.0)
        x, y = centre - reach / 2, top + 1.7 * size * line
        while x < centre + reach / 2 - size:
            word = min(size * rng.uniform(1.2, 4.0), centre + reach / 2 - x)
            draw.rectangle([x, y, x + word, y + size], fill=ink)
            x += word + size * 0.7


def _regular(
    draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, corners: int, ink: tuple, inner: float = 1.0
) -> None:
    """Draw a regular polygon, or a star where `inner` is below 1."""
    points = []
    for k in range(2 * corners):
        reach = radius * (1 if k % 2 == 0 else inner * np.cos(np.pi / corners))
        points.append((x + reach * np.sin(np.pi * k / corners), y - reach * np.cos(np.pi * k / corners)))
    draw.polygon(points, fill=ink)


def _motif(draw: ImageDraw.ImageDraw, pattern: str, x: float, y: float, r: float, variety: Variety) -> None:
    base, second, third = _ink(variety.base), _ink(variety.second), _ink(variety.third)
    match pattern:
        case "circle":
            draw.ellipse([x - r, y - r, x + r, y + r], fill=second)
            draw.ellipse([x - r * 0.55, y - r * 0.55, x + r * 0.55, y + r * 0.55], fill=third)
        case "ring":
            draw.ellipse([x - r, y - r, x + r, y + r], fill=second)
            draw.ellipse([x - r * 0.68, y - r * 0.68, x + r * 0.68, y + r * 0.68], fill=base)
            draw.ellipse([x - r * 0.34, y - r * 0.34, x + r * 0.34, y + r * 0.34], fill=third)
        case "diamond":
            _regular(draw, x, y, r * 1.15, 4, second)
            _regular(draw, x, y, r * 0.6, 4, third)
        case "triangle":
            _regular(draw, x, y + r * 0.15, r * 1.15, 3, second)
        case "star":
            _regular(draw, x, y, r * 1.15, 5, second, 0.5)
        case "hexagon":
            for dx, dy in ((0, -0.62), (-0.55, 0.33), (0.55, 0.33)):
                _regular(draw, x + r * dx, y + r * dy, r * 0.56, 6, second if dx <= 0 else third)
        case "cross":
            draw.rectangle([x - r * 0.3, y - r, x + r * 0.3, y + r], fill=second)
            draw.rectangle([x - r, y - r * 0.3, x + r, y + r * 0.3], fill=second)
        case "sunrise":
            for k in range(9):
                a = np.pi * k / 8
                tip, wing = r * 1.35, 0.12
                draw.polygon(
                    [
                        (x, y + r * 0.4),
                        (x - tip * np.cos(a - wing), y + r * 0.4 - tip * np.sin(a - wing)),
                        (x - tip * np.cos(a + wing), y + r * 0.4 - tip * np.sin(a + wing)),
                    ],
                    fill=third,
                )
            draw.pieslice([x - r * 0.8, y - r * 0.4, x + r * 0.8, y + r * 1.2], 180, 360, fill=second)
        case "meadow":
            draw.ellipse([x - r * 0.2, y - r * 1.1, x + r * 0.9, y], fill=(250, 200, 40))
            draw.ellipse([x - r * 1.5, y + r * 0.1, x + r * 0.6, y + r * 2.6], fill=third)
            draw.ellipse([x - r * 0.5, y + r * 0.4, x + r * 1.7, y + r * 2.8], fill=second)


def paint(width: int, height: int, variety: Variety, front: float = 0.40) -> np.ndarray:
    """Return a label (height, width, 3) in sRGB, row 0 at the bottom; `front` is the part of the width seen at once."""
    rng = np.random.default_rng([7, variety.design])
    image = Image.new("RGB", (width, height), _ink(variety.base))
    draw = ImageDraw.Draw(image)
    second, third = _ink(variety.second), _ink(variety.third)
    writing = _readable_on(variety.base)
    middle, span = width / 2, width * front
    if variety.pattern == "stripes":
        slope, count = rng.choice([0.0, 0.0, height * 0.5]), int(rng.integers(5, 9))
        for k in range(-2, count * 2):
            x = k * width / count
            draw.polygon(
                [(x, 0), (x + width / count / 2, 0), (x + width / count / 2 - slope, height), (x - slope, height)],
                fill=second,
            )
        draw.rectangle([middle - span * 0.36, height * 0.28, middle + span * 0.36, height * 0.72], fill=third)
        _text(draw, middle, height * 0.40, span * 0.55, 2, height * 0.07, _readable_on(variety.third), rng)
    elif variety.pattern == "bands":
        cuts = np.sort(rng.uniform(0.08, 0.92, 4))
        draw.rectangle([0, height * cuts[0], width, height * cuts[1]], fill=second)
        draw.rectangle([0, height * cuts[2], width, height * cuts[3]], fill=third)
        _text(draw, middle, height * 0.42, span * 0.75, 2, height * 0.08, writing, rng)
    else:
        band = rng.uniform(0.08, 0.16)
        if variety.pattern not in ("meadow", "sunrise"):
            draw.rectangle([0, 0, width, height * band], fill=third)
        draw.rectangle([0, height * (1 - band), width, height], fill=third if variety.pattern == "meadow" else second)
        radius = min(span * 0.46, height * 0.29)
        _motif(draw, variety.pattern, middle, height * 0.44, radius, variety)
        _text(draw, middle, height * 0.76, span * 0.75, 1, height * 0.06, writing, rng)
    for side in (0.07, 0.93):
        _text(draw, width * side, height * 0.25, span * 0.5, 4, height * 0.045, writing, rng)
    return np.asarray(image, np.float32)[::-1] / 255
