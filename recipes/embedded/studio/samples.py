"""Writes the sample catalog, its deliberately bad twin and the held-out evaluation pictures. Knows no training.

References show only four of the scenes, so that grass, tiles, cloth and basket stay new to a fine-tune.
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from . import captions, scenes, varieties
from .varieties import Variety

REFERENCE_SCENES = ["a wooden table", "a marble counter", "a white background", "a wooden cutting board"]
NUM_REFERENCES = 10
REFERENCE_SAMPLES = 40
QUALITY = 90

CATALOG_README = """# The sample catalog

Reference photos of six invented products, ten of each, rendered by `recipes/embedded/01_render.py --samples`
(Apache-2.0, like the rest of the repository). Each folder `<department>/<class>/<variety>` holds `NN.jpg` (256 by 256
pixels), `NN_mask.png` (product = 255) and `metadata.jsonl`, one line a photo: file_name, mask, text, scene, light,
count, license, source. The embedded base model has never seen these six varieties, and the references show four scenes
only (wooden table, marble counter, white background, wooden cutting board): what a fine-tune shows on grass, tiles, a
tablecloth or in a basket it has not copied. `../catalog-bad/apple` is a set with faults to find: five good photos, then
a foreign product, a near-duplicate of 01, a blurred, a very dark and a tiny one; the file names say which.
"""


def save(picture: np.ndarray | Image.Image, path: Path) -> None:
    """Write a picture under a temporary name, then rename it."""
    temporary = path.with_name("." + path.name)
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(temporary, quality=QUALITY, optimize=True)
    temporary.rename(path)


def _record(name: str, variety: Variety, scene: str, light: str, count: int) -> dict:
    return {
        "file_name": name,
        "text": captions.plain(variety.class_name, scene, light, count),
        "scene": scene,
        "light": light,
        "count": count,
        "license": "Apache-2.0",
        "source": "rendered by recipes/embedded",
    }


def _write_records(folder: Path, records: list[dict]) -> None:
    (folder / "metadata.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def _references(variety: Variety, size: int, seed: list[int], number: int):
    """Yield (picture, mask, scene, light, count) of a variety: scenes and lights in turn, most photos of one piece."""
    from .render import render

    most = 1 if variety.class_name == "minced" else 2 if variety.department != "produce" else 3
    for k in range(number):
        rng = np.random.default_rng([*seed, k])
        scene, light = REFERENCE_SCENES[k % 4], list(scenes.LIGHTS)[(k + k // 4) % 3]
        count = min((1, 1, 1, 2, 1, 3, 1, 1, 2, 1)[k], most)
        picture, mask = render(scenes.compose(variety, scene, light, count, rng), size, REFERENCE_SAMPLES, k)
        yield picture, mask, scene, light, count


def write_catalog(root: Path, size: int, seed: int) -> None:
    """Write catalog/ and catalog-bad/ below a folder."""
    known = {variety.path: variety for variety in varieties.held_out()}
    for which, path in enumerate(varieties.SAMPLE_PATHS):
        write_category(root / "catalog" / path, known[path], size, [seed, 100, which])
    (root / "catalog" / "README.md").write_text(CATALOG_README)
    write_bad(
        root / "catalog-bad" / "apple",
        known["produce/apple/honeycrisp"],
        known["packaged/can/sunrise-beans"],
        size,
        seed,
    )


def write_rivals(root: Path, size: int, seed: int, number: int = 6) -> None:
    """Write `number` training varieties of each class of the sample catalog, photographed as that is; whole ones are kept."""
    for which, (department, class_name) in enumerate(
        dict.fromkeys(tuple(p.split("/")[:2]) for p in varieties.SAMPLE_PATHS)
    ):
        for k in range(number):
            variety = varieties.training_variety(department, class_name, k)
            if not (root / variety.path / "metadata.jsonl").exists():
                write_category(root / variety.path, variety, size, [seed, 400, which, k])


def write_category(folder: Path, variety: Variety, size: int, seed: list[int]) -> None:
    """Write the references, masks and metadata of one category."""
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    for k, (picture, mask, *shown) in enumerate(_references(variety, size, seed, NUM_REFERENCES)):
        save(picture, folder / f"{k:02d}.jpg")
        save(mask, folder / f"{k:02d}_mask.png")
        records.append({**_record(f"{k:02d}.jpg", variety, *shown), "mask": f"{k:02d}_mask.png"})
    _write_records(folder, records)


def write_bad(folder: Path, apple: Variety, foreign: Variety, size: int, seed: int) -> None:
    """Write five good photos and five faulty ones, whose names say what is wrong."""
    folder.mkdir(parents=True, exist_ok=True)
    shots = list(_references(apple, size, [seed, 200], 8))
    good = [Image.fromarray(picture) for picture, *_ in shots]
    can = next(_references(foreign, size, [seed, 201], 1))
    twin = ImageEnhance.Brightness(good[1].crop((3, 2, size - 2, size - 3)).resize((size, size))).enhance(1.03)
    pictures = [(f"{k:02d}.jpg", good[k], shots[k]) for k in range(5)] + [
        ("05-foreign.jpg", Image.fromarray(can[0]), shots[0]),
        ("06-near-duplicate.jpg", twin, shots[1]),
        ("07-blurred.jpg", good[5].filter(ImageFilter.GaussianBlur(size / 36)), shots[5]),
        ("08-dark.jpg", ImageEnhance.Brightness(good[6]).enhance(0.10), shots[6]),
        ("09-tiny.jpg", good[7].resize((48, 48), Image.Resampling.LANCZOS), shots[7]),
    ]
    for name, picture, _ in pictures:
        save(picture, folder / name)
    _write_records(folder, [_record(name, apple, *shot[2:]) for name, _, shot in pictures])


def write_held_out(folder: Path, size: int, samples_per_pixel: int, seed: int, number: int = 16) -> None:
    """Write `number` pictures and masks of each held-out variety, over all scenes, with one held-out.jsonl for all."""
    from .render import render

    records = []
    for which, variety in enumerate(varieties.held_out()):
        (folder / variety.path).mkdir(parents=True, exist_ok=True)
        for k in range(number):
            rng = np.random.default_rng([seed, 300, which, k])
            scene, light = scenes.SCENES[k % 8], list(scenes.LIGHTS)[(k + k // 8) % 3]
            count = scenes.draw_count(variety.department, variety.class_name, rng)
            name = f"{variety.path}/{k:02d}.png"
            if not (folder / name).exists():
                picture, mask = render(scenes.compose(variety, scene, light, count, rng), size, samples_per_pixel, k)
                save(mask, folder / name.replace(".png", "_mask.png"))
                save(picture, folder / name)
            records.append(
                {
                    **_record(name, variety, scene, light, count),
                    "mask": name.replace(".png", "_mask.png"),
                    "department": variety.department,
                    "class": variety.class_name,
                    "variety": variety.name,
                }
            )
    _write_records(folder, records)
    (folder / "metadata.jsonl").rename(folder / "held-out.jsonl")
