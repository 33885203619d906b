"""The pictures of the class that preserve the prior (Ruiz et al. 2023): made by the bare base, once for all runs.

A set belongs to its prompts, not to a category or a run: its name is the digest of base, prompts, sampler settings,
seed and count, and its seed comes from the prompts. It is made in chunks of a batch or two, each whole or absent, so
that an interrupted set goes on where it stopped and has the same bytes as one made in one go.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from packshot.diffusion.cache import cache_key
from packshot.diffusion.durable import write_file, write_folder
from packshot.domain.generation import SamplingSettings
from packshot.domain.models import BaseModelRef
from packshot.ports import Generator, Progress

PHASE = "class images"
CHUNK = 16

_DIGESTS = "digests.json"


@dataclass(frozen=True, kw_only=True)
class ClassImageSet:
    """Which class images: everything that their bytes depend on. There are ``count`` of each prompt."""

    base: BaseModelRef
    prompts: tuple[str, ...]
    count: int
    resolution: int
    inference_steps: int
    guidance_scale: float
    max_batch: int

    @property
    def seed(self) -> int:
        """The seed of the first pictures: fixed by the prompts, the same in every run."""
        return int.from_bytes(hashlib.sha256(self._text.encode()).digest()[:3], "little")

    @property
    def total(self) -> int:
        """How many pictures there are."""
        return self.count * len(self.prompts)

    @property
    def chunk(self) -> int:
        """Pictures of each prompt in a chunk."""
        return max(1, CHUNK // len(self.prompts))

    @property
    def _text(self) -> str:
        return "\n".join(self.prompts)

    def description(self) -> dict[str, str | int | float]:
        """The set in plain values; its digest is the set's name."""
        return {
            "base_digest": self.base.digest,
            "prompt": self._text,
            "count": self.count,
            "resolution": self.resolution,
            "inference_steps": self.inference_steps,
            "guidance_scale": self.guidance_scale,
            "max_batch": self.max_batch,
            "seed": self.seed,
        }


def class_images(
    wanted: Sequence[ClassImageSet],
    generator: Generator,
    cachedir: Path,
    report: Callable[[Progress], None],
    check_stop: Callable[[], None],
) -> Iterator[tuple[str, bytes]]:
    """Each picture's prompt and PNG; those that the cache lacks are made with the bare base.

    ``check_stop`` is called at every denoising step and may raise; complete chunks are kept.
    """
    before, total = 0, sum(each.total for each in wanted)
    for each in wanted:

        def report_set(progress: Progress, before: int = before) -> None:
            report(replace(progress, step=before + progress.step, num_steps=total))

        yield from _images_of(each, generator, cachedir, report_set, check_stop)
        before += each.total


def _images_of(
    wanted: ClassImageSet,
    generator: Generator,
    cachedir: Path,
    report: Callable[[Progress], None],
    check_stop: Callable[[], None],
) -> Iterator[tuple[str, bytes]]:
    folder = cachedir / "class-images" / cache_key(**wanted.description())
    for first in range(0, wanted.count, wanted.chunk):
        count = min(wanted.chunk, wanted.count - first)
        chunk = folder / f"{first:05d}"
        found = _read_chunk(chunk, count * len(wanted.prompts))
        if found is None:
            found = _make_chunk(wanted, generator, first, count, report, check_stop)
            _write_chunk(chunk, found)
            write_file(folder / "set.json", json.dumps(wanted.description(), indent=1).encode())
        yield from zip([prompt for prompt in wanted.prompts for _ in range(count)], found, strict=True)


def _make_chunk(
    wanted: ClassImageSet,
    generator: Generator,
    first: int,
    count: int,
    report: Callable[[Progress], None],
    check_stop: Callable[[], None],
) -> list[bytes]:
    def report_chunk(progress: Progress) -> None:
        check_stop()
        done = first + count * progress.step / progress.num_steps
        report(Progress(phase=PHASE, step=int(done * len(wanted.prompts)), num_steps=wanted.total))

    sampling = SamplingSettings(
        seed=wanted.seed + first,
        num_images=count,
        inference_steps=wanted.inference_steps,
        guidance_scale=wanted.guidance_scale,
        width=wanted.resolution,
        height=wanted.resolution,
    )
    return generator.generate(wanted.base, None, wanted.prompts, sampling, report=report_chunk)


def _write_chunk(folder: Path, pngs: list[bytes]) -> None:
    files = {f"{number:02d}.png": png for number, png in enumerate(pngs)}
    digests = {name: hashlib.sha256(png).hexdigest() for name, png in files.items()}
    write_folder(folder, {**files, _DIGESTS: json.dumps(digests).encode()})


def _read_chunk(folder: Path, count: int) -> list[bytes] | None:
    """The pictures of a chunk, or None where there is none; a damaged one is removed, to be made anew."""
    if not folder.exists():
        return None
    try:
        digests = json.loads((folder / _DIGESTS).read_bytes())
        pngs = [(folder / f"{number:02d}.png").read_bytes() for number in range(count)]
        whole = [hashlib.sha256(png).hexdigest() for png in pngs] == list(digests.values())
    except (OSError, ValueError, AttributeError):
        whole, pngs = False, []
    if not whole:
        shutil.rmtree(folder)
        return None
    return pngs
