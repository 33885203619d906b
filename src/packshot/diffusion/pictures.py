"""Pictures between PNG bytes and tensors. Knows no model."""

import math
from typing import cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from packshot.diffusion.protocols import Frame
from packshot.imaging.pixels import encode_png, open_png

Size = tuple[int, int]  # width and height in pixels


def bucket(png: bytes, resolution: int, cell: int) -> Size:
    """Of the sizes with about ``resolution`` squared pixels the one nearest in shape to a picture.

    Sides are multiples of an eighth of the resolution, and of ``cell``.
    """
    image = open_png(png)
    step = max(cell, resolution // 8 // cell * cell)
    sides = range(step, 2 * resolution + 1, step)
    sizes = [(width, resolution**2 // width // step * step) for width in sides if width >= resolution // 2]
    shape = math.log(image.width / image.height)
    return min((size for size in sizes if size[1]), key=lambda size: abs(math.log(size[0] / size[1]) - shape))


def pixels_from_png(png: bytes, size: Size) -> Tensor:
    """The middle of a picture at ``size``: (3, height, width) in [-1, 1]."""
    middle = _middle(open_png(png).convert("RGB"), size, Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(middle, dtype=np.float32)).permute(2, 0, 1) / 127.5 - 1


def frame_of_png(png: bytes, size: Size) -> Frame:
    """How ``pixels_from_png`` cuts this picture."""
    image, (width, height) = open_png(png), size
    left, top, right, bottom = _middle_box(image, size)
    corner = top * height // (bottom - top), left * width // (right - left)
    return image.height, image.width, *corner, height, width


def mask_from_png(png: bytes, size: Size, cells: tuple[int, int]) -> Tensor:
    """The share of product in each cell of the middle: (1, height, width) in [0, 1]; ``cells`` is (height, width)."""
    middle = _middle(open_png(png).convert("L"), size, Image.Resampling.BOX)
    grey = torch.from_numpy(np.asarray(middle, dtype=np.float32))[None, None] / 255
    return torch.nn.functional.adaptive_avg_pool2d(grey, cells)[0]


def png_from_pixels(pixels: Tensor) -> bytes:
    """(3, height, width) in [-1, 1] to an 8-bit PNG; what lies outside is clipped."""
    bytes_ = ((pixels.float() / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    return encode_png(Image.fromarray(cast(np.ndarray, bytes_.permute(1, 2, 0).cpu().numpy())))


def _middle(image: Image.Image, size: Size, how: Image.Resampling) -> Image.Image:
    return image.resize(size, how, box=_middle_box(image, size))


def _middle_box(image: Image.Image, size: Size) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the largest part in the shape of ``size``."""
    width = max(1, min(image.width, image.height * size[0] // size[1]))
    height = max(1, min(image.height, image.width * size[1] // size[0]))
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return left, top, left + width, top + height
