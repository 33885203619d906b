"""Pictures between PNG bytes and tensors. Knows no model."""

from typing import cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from packshot.diffusion.protocols import Frame
from packshot.imaging.pixels import encode_png, open_png


def pixels_from_png(png: bytes, resolution: int) -> Tensor:
    """The middle square of a picture at ``resolution`` pixels: (3, resolution, resolution) in [-1, 1]."""
    square = _middle_square(open_png(png).convert("RGB"), resolution, Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(square, dtype=np.float32)).permute(2, 0, 1) / 127.5 - 1


def frame_of_png(png: bytes, resolution: int) -> Frame:
    """How ``pixels_from_png`` cuts this picture."""
    image = open_png(png)
    edge = min(image.size)
    top, left = ((length - edge) // 2 * resolution // edge for length in (image.height, image.width))
    return image.height, image.width, top, left, resolution, resolution


def mask_from_png(png: bytes, resolution: int, size: tuple[int, int]) -> Tensor:
    """The share of product in each cell of the middle square: (1, height, width) in [0, 1]; ``size`` is (h, w)."""
    square = _middle_square(open_png(png).convert("L"), resolution, Image.Resampling.BOX)
    grey = torch.from_numpy(np.asarray(square, dtype=np.float32))[None, None] / 255
    return torch.nn.functional.adaptive_avg_pool2d(grey, size)[0]


def png_from_pixels(pixels: Tensor) -> bytes:
    """(3, height, width) in [-1, 1] to an 8-bit PNG; what lies outside is clipped."""
    bytes_ = ((pixels.float() / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    return encode_png(Image.fromarray(cast(np.ndarray, bytes_.permute(1, 2, 0).cpu().numpy())))


def _middle_square(image: Image.Image, resolution: int, how: Image.Resampling) -> Image.Image:
    edge = min(image.size)
    left, top = (image.width - edge) // 2, (image.height - edge) // 2
    return image.resize((resolution, resolution), how, box=(left, top, left + edge, top + edge))
