"""What is computed once and found again by what it was computed from: latents of pictures. Shared by all runs.

Prompt embeddings are kept for the length of a run (``conditioning``): they cost little and depend on the run's token.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from packshot.diffusion.durable import write_file
from packshot.diffusion.pictures import Size, pixels_from_png
from packshot.diffusion.protocols import Family, LatentDistribution


def cache_key(**parts: str | int | float) -> str:
    """The name of what was computed from these parts."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class LatentCache:
    """Latent distributions of pictures, one file each: by base, picture, size and mirroring."""

    def __init__(self, folder: Path, base: Family, base_digest: str) -> None:
        self._folder = folder
        self._base = base
        self._base_digest = base_digest

    def latents(self, png: bytes, size: Size, *, mirrored: bool) -> LatentDistribution:
        """The latents of a picture's middle, encoded on its own so that they depend on nothing else."""
        picture = hashlib.sha256(png).hexdigest()
        width, height = size
        key = cache_key(base=self._base_digest, picture=picture, width=width, height=height, mirrored=mirrored)
        found = _tensors(self._folder / f"{key}.safetensors", lambda: self._encode(png, size, mirrored))
        return LatentDistribution(mean=found["mean"], std=found["std"])

    def _encode(self, png: bytes, size: Size, mirrored: bool) -> dict[str, Tensor]:
        pixels = pixels_from_png(png, size)
        distribution = self._base.encode_pixels(pixels.flip(-1) if mirrored else pixels)
        return {"mean": distribution.mean.contiguous(), "std": distribution.std.contiguous()}


def _tensors(path: Path, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors in ``path``; made and written where the file is missing or damaged."""
    try:
        return load(path.read_bytes())
    except (FileNotFoundError, SafetensorError):
        tensors = make()
        write_file(path, save(tensors))
        return tensors
