"""Render the corpus: pictures, masks and captions of invented products, into the recipes' work folder.

Picture i depends on the configuration's seed and i alone, and complete pictures are kept, so the program may be
stopped and started again at any time. Any prefix of the corpus is balanced over classes and scenes. `--samples` writes
the sample catalog, `--held-out` the evaluation varieties. What a product or a scene looks like is in `studio/`.
"""

import argparse
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import yaml
from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

sys.path.insert(0, str(Path(__file__).parent))
from studio import captions, samples, scenes, varieties

HERE = Path(__file__).parent
WORK = Path(os.environ.get("PACKSHOT_RECIPE_WORK", Path.home() / ".cache/packshot/recipes/embedded"))


def plan(seed: int, index: int) -> dict:
    """Return what picture `index` shows, as a record of the corpus."""
    order = np.random.default_rng(seed).permutation(len(varieties.CLASSES))
    which = order[index % len(order)]
    department, class_name = varieties.CLASSES[which]
    rng = np.random.default_rng([seed, index])
    scene = scenes.SCENES[(index // len(order) + 3 * int(which)) % len(scenes.SCENES)]
    light = list(scenes.LIGHTS)[rng.integers(3)]
    count = scenes.draw_count(department, class_name, rng)
    variety = varieties.training_variety(department, class_name, int(rng.integers(varieties.NUM_TRAINING_VARIETIES)))
    return {
        "file_name": f"{index:06d}.png",
        "mask": f"{index:06d}_mask.png",
        "department": department,
        "class": class_name,
        "variety": variety.name,
        "scene": scene,
        "light": light,
        "count": count,
        "captions": captions.variants(variety, scene, light, count, rng),
        "seed": [seed, index],
    }


def render_one(seed: int, index: int, size: int, samples_per_pixel: int, folder: str) -> int:
    """Render one picture of the corpus and its mask; the picture is renamed last, so that it marks both complete."""
    from studio.render import render

    record = plan(seed, index)
    number = int(record["variety"].removeprefix("variety-"))
    variety = varieties.training_variety(record["department"], record["class"], number)
    shot = scenes.compose(
        variety, record["scene"], record["light"], record["count"], np.random.default_rng([seed, index, 1])
    )
    picture, mask = render(shot, size, samples_per_pixel, seed=index)
    samples.save(mask, Path(folder) / record["mask"])
    samples.save(picture, Path(folder) / record["file_name"])
    return index


def start_worker(variant: str) -> None:
    """Prepare a worker process."""
    from studio.render import start

    start(variant)


def write_index(seed: int, folder: Path) -> int:
    """Write renders.jsonl: one line for each complete picture, in order; return how many."""
    indices = sorted(int(path.stem) for path in folder.glob("[0-9]*.png") if path.stem.isdigit())
    temporary = folder.parent / "renders.jsonl.tmp"
    temporary.write_text("".join(json.dumps(plan(seed, index)) + "\n" for index in indices))
    temporary.rename(folder.parent / "renders.jsonl")
    return len(indices)


def render_corpus(settings: dict, count: int, processes: int) -> None:
    """Render the missing pictures of the first `count`, and refresh the index every 128."""
    folder = WORK / "renders"
    folder.mkdir(parents=True, exist_ok=True)
    missing = [index for index in range(count) if not (folder / f"{index:06d}.png").exists()]
    columns = (
        "[progress.description]{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with (
        ProcessPoolExecutor(
            processes, mp_context=get_context("spawn"), initializer=start_worker, initargs=(settings["variant"],)
        ) as pool,
        Progress(*columns, refresh_per_second=0.2) as progress,
    ):
        task = progress.add_task("pictures", total=count, completed=count - len(missing))
        for start in range(0, len(missing), 128):
            jobs = [
                pool.submit(
                    render_one, settings["seed"], index, settings["size"], settings["samples_per_pixel"], str(folder)
                )
                for index in missing[start : start + 128]
            ]
            for job in jobs:
                job.result()
                progress.advance(task)
            write_index(settings["seed"], folder)


def contact_sheet(folder: Path, count: int, target: Path) -> None:
    """Write a sheet of the first `count` pictures, 16 in a row: one column a class in each block of 16."""
    paths = [path for path in sorted(folder.glob("[0-9]*.png")) if path.stem.isdigit()][:count]
    sheet = Image.new("RGB", (16 * 128, -(-len(paths) // 16) * 128))
    for k, path in enumerate(paths):
        sheet.paste(Image.open(path).resize((128, 128)), (k % 16 * 128, k // 16 * 128))
    sheet.save(target)


def main() -> None:
    """Read the command line and render."""
    settings = yaml.safe_load((HERE / "config.yaml").read_text())["render"]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=settings["count"], help="pictures in the corpus")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--sheet", action="store_true", help="write renders-sheet.png of the first pictures, and stop")
    parser.add_argument("--samples", action="store_true", help="write the sample catalog into the package, and stop")
    parser.add_argument("--held-out", action="store_true", help="render the evaluation varieties, and stop")
    parser.add_argument("--rivals", action="store_true", help="render rivals of the sample catalog, and stop")
    arguments = parser.parse_args()
    if arguments.sheet:
        contact_sheet(WORK / "renders", arguments.count, WORK / "renders-sheet.png")
    elif arguments.samples:
        start_worker(settings["variant"])
        samples.write_catalog(HERE.parents[1] / "src/packshot/embedded", settings["sample_size"], settings["seed"])
    elif arguments.held_out:
        start_worker(settings["variant"])
        samples.write_held_out(WORK / "held-out", settings["size"], settings["samples_per_pixel"], settings["seed"])
    elif arguments.rivals:
        start_worker(settings["variant"])
        samples.write_rivals(WORK / "rivals", settings["sample_size"], settings["seed"])
    else:
        render_corpus(settings, arguments.count, arguments.processes)


if __name__ == "__main__":
    main()
