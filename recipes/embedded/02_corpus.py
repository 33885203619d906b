"""Merges renders and store photos into one memory-mapped corpus of 128 x 128 pictures.

Writes corpus/images.npy (count, 128, 128, 3), corpus/masks.npy (count, 128, 128; 255 is product, all 0 where no mask is
known) and corpus/index.jsonl, in the same order. Renders bring their own captions; photos get coarse ones from
config.yaml, since nothing but the class of a photo is known. Does not know what is trained on them.
"""

import argparse
import json
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track
from training.pictures import Picture, load_rgb, read_photos, read_renders, write_sheet
from training.settings import grocery_folder, section, work_folder

SIZE = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--max-renders", type=int, help="take only the first so many renders")
    arguments = parser.parse_args()
    folder = work_folder() / "corpus"
    folder.mkdir(exist_ok=True)
    settings = section("corpus")
    pictures = [*read_renders(work_folder() / "renders")[: arguments.max_renders], *read_photos(grocery_folder())]

    images = np.lib.format.open_memmap(folder / "images.part", "w+", np.uint8, (len(pictures), SIZE, SIZE, 3))
    masks = np.lib.format.open_memmap(folder / "masks.part", "w+", np.uint8, (len(pictures), SIZE, SIZE))
    rows, kept = [], 0
    for picture in track(pictures, "corpus"):
        image = load_rgb(picture.path, SIZE)
        if image is None:
            continue
        mask = read_mask(picture.mask)
        images[kept] = image
        masks[kept] = 0 if mask is None else mask
        rows.append(describe(picture, settings) | {"mask": mask is not None})
        kept += 1
    np.save(folder / "images.kept.npy", images[:kept])
    np.save(folder / "masks.kept.npy", masks[:kept])
    (folder / "index.part").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, target in (
        ("images.kept.npy", "images.npy"),
        ("masks.kept.npy", "masks.npy"),
        ("index.part", "index.jsonl"),
    ):
        (folder / name).replace(folder / target)
    for name in ("images.part", "masks.part"):
        (folder / name).unlink()

    print(Counter((row["source"], row["split"]) for row in rows))
    print(Counter(row["class"] for row in rows if row["source"] == "render"))
    chosen = np.random.default_rng(section("seed")).permutation(kept)[:60]
    write_sheet(folder / "sheet.png", [[images[i] for i in chosen[start : start + 12]] for start in range(0, 60, 12)])
    for i in chosen[:8]:
        print(rows[i]["source"], rows[i]["captions"])


def read_mask(path: Path | None) -> np.ndarray | None:
    """uint8 (128, 128), or None where there is none or it is half-written."""
    rgb = None if path is None else load_rgb(path)
    if rgb is None:
        return None
    return np.asarray(Image.fromarray(rgb).convert("L").resize((SIZE, SIZE), Image.Resampling.BOX))


def describe(picture: Picture, settings: dict) -> dict:
    """The index row of a picture."""
    captions = picture.captions or photo_captions(picture, settings)
    return {"captions": list(captions), "department": picture.department, "class": picture.class_name,
            "variety": picture.variety, "scene": picture.scene, "light": picture.light, "count": picture.count,
            "source": picture.source, "split": picture.split}  # fmt: skip


def photo_captions(picture: Picture, settings: dict) -> list[str]:
    """Coarse captions: the class and the shop, in the singular too, since fine-tuning prompts say "a photo of <id> apple"."""
    noun = settings["nouns"].get(picture.class_name)
    if noun is None:
        raise KeyError(f"no noun for class {picture.class_name!r}: add it to corpus.nouns in config.yaml")
    if isinstance(noun, str):
        vessel = settings["packages"].get(picture.class_name, settings["packages"]["default"])
        one = f"a {vessel} of {noun}"
        several = one
    else:
        one, several = noun
    return list(dict.fromkeys(form.format(one=one, several=several) for form in settings["photo_captions"]))


if __name__ == "__main__":
    main()
