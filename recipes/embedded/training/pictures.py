"""Store photos and renders as records with a split, and contact sheets of pictures.

Knows the two metadata formats and which pictures are held out; does not know what is trained on them.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from training.settings import section


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture on disk; `split` is train, validation or held-out."""

    path: Path
    mask: Path | None
    source: str
    split: str
    department: str
    class_name: str
    variety: str
    scene: str
    light: str
    count: int
    captions: tuple[str, ...]


def read_photos(folder: Path) -> list[Picture]:
    """All store photos, in the order of metadata.jsonl."""
    data = section("data")
    held_out, every = set(data["held_out"]), data["validation_every"]
    seen: Counter[str] = Counter()
    photos = []
    for row in _rows(folder / "metadata.jsonl"):
        variety = row["variety"]
        number, seen[variety] = seen[variety], seen[variety] + 1
        split = "held-out" if variety in held_out else "validation" if number % every == every - 1 else "train"
        photos.append(Picture(
            path=folder / row["file_name"], mask=None, source="photo", split=split, department=row["department"],
            class_name=row["class"], variety=variety, scene="store", light="store", count=0, captions=(),
        ))  # fmt: skip
    return photos


def read_renders(folder: Path) -> list[Picture]:
    """The renders in `folder` that are complete now; the index beside it may grow while the renderer works."""
    every = section("data")["validation_every_render"]
    renders = []
    index = folder.parent / "renders.jsonl"
    for row in _rows(index) if index.is_file() else ():
        path = folder / Path(row["file_name"]).name
        if not path.is_file():
            continue
        number = int(path.stem)
        mask = folder / Path(row["mask"]).name
        renders.append(Picture(
            path=path, mask=mask if mask.is_file() else None, source="render",
            split="validation" if number % every == every - 1 else "train", department=row["department"],
            class_name=row["class"], variety=row["variety"], scene=row["scene"], light=row["light"],
            count=int(row["count"]), captions=tuple(row["captions"]),
        ))  # fmt: skip
    return renders


def load_rgb(path: Path, size: int | None = None) -> np.ndarray | None:
    """uint8 (height, width, 3), resized with antialias if a size is given; None for a half-written file."""
    try:
        with Image.open(path) as file:
            image = file.convert("RGB")
    except (OSError, SyntaxError):  # PIL's answers to a truncated file
        return None
    if size and image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(image)


def write_sheet(path: Path, rows: Sequence[Iterable[np.ndarray]], labels: Sequence[str] = (), zoom: int = 1) -> None:
    """Rows of uint8 pictures of one size as a PNG, each row with an optional label on its left."""
    grid = [list(row) for row in rows]
    height, width = grid[0][0].shape[:2]
    margin = 90 if labels else 0
    columns = max(len(row) for row in grid)
    sheet = Image.new("RGB", (margin + columns * (width + 2), len(grid) * (height + 2)), "white")
    draw = ImageDraw.Draw(sheet)
    for y, row in enumerate(grid):
        if labels:
            draw.multiline_text((3, y * (height + 2) + 4), labels[y].replace(" ", "\n"), fill="black")
        for x, picture in enumerate(row):
            sheet.paste(Image.fromarray(picture), (margin + x * (width + 2), y * (height + 2)))
    if zoom > 1:
        sheet = sheet.resize((sheet.width * zoom, sheet.height * zoom), Image.Resampling.NEAREST)
    temporary = path.with_suffix(".part.png")
    sheet.save(temporary)
    temporary.replace(path)


def _rows(path: Path) -> Iterable[dict]:
    for line in path.read_text().splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:  # the renderer is appending this very line
            continue
