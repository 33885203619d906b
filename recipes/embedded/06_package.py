"""Packages the trained folders for Packshot: fp16 weights, a model card, and a manifest of digests.

Takes `base`, `judge/embedder` and `judge/clip` from the work folder, proves that they load, draw and judge, and puts
them all at once where Packshot looks for them; a missing part or a package that is too large changes nothing. `--check`
compares an existing package with its manifest, `--fine-tunes` writes what 08 has measured into the card of an existing
package, `--base-alone` changes nothing of a package but its base. Does not know how anything was trained, beyond the
figures it left.
"""

import argparse
import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from string import Template

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file, save_file
from training.pictures import write_sheet
from training.settings import RECIPE, REPOSITORY, section, work_folder

from packshot.diffusion.base_files import READ_SUFFIXES, examine, prediction_type
from packshot.digests import FileDigests
from packshot.domain.errors import PackshotError
from packshot.embedded.bundle import BASE, CLIP, EMBEDDER, PARTS, check_bundle, measure, write_manifest
from packshot.imaging.pixels import encode_png
from packshot.judging.transformers_judge import TransformersJudge

JUDGE_FILES = {
    EMBEDDER: ("config.json", "preprocessor_config.json", "model.safetensors"),
    CLIP: ("config.json", "preprocessor_config.json", "model.safetensors", "tokenizer_config.json"),
}
RUNS = {
    "autoencoder": "autoencoder",
    "text encoder and UNet": "base_run",
    "judge: embedder": "judge/embedder_run",
    "judge: CLIP": "judge/clip_run",
}
TOKENIZER = "tokenizer.json"
IN_TOKENIZER = ("vocab.json", "merges.txt")  # which the judge's library reads there; the base's are for other tools too
FINE_TUNES = "## Fine-tunes\n\n"  # the heading of their part of the card
ABOUT_FINE_TUNES = """By `08_fine_tunes.py`, at the shipped defaults. Fidelity is a share of the real photos'; in brackets the bare base, or the drift
without prior preservation. A class's first fine-tune has its class images in its seconds. "Called right" is by a probe on photos."""
FINE_TUNE_COLUMNS = {  # a table each: its columns, as the names of a figure and of what it is compared with
    "sample category": {
        "seconds": ("seconds",), "fidelity": ("relative_fidelity",), "nearest": ("nearest", "nearest_base"),
        "scene": ("scene", "scene_base"), "drift": ("drift", "drift_without_prior"),
    },
    "real variety": {"seconds": ("seconds",), "called right": ("probe", "probe_base"), "photos": ("probe_photos",)},
}  # fmt: skip
LOCAL_NAMES = ("_name_or_path", "name_or_path")


class PackageRefused(Exception):
    """What lies in the work folder cannot be packaged as it is."""


def main() -> None:
    settings = section("package")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", type=Path, default=REPOSITORY / "src/packshot/embedded/weights")
    parser.add_argument("--max-megabytes", type=float, default=settings["max_megabytes"], help="limit of the package")
    parser.add_argument("--check", action="store_true", help="compare the package with its manifest, and stop")
    parser.add_argument("--fine-tunes", action="store_true", help="write what 08 has measured into its card, and stop")
    parser.add_argument("--base-alone", action="store_true",
                        help="keep the judge of the existing package, and what its card says of judge and autoencoder")  # fmt: skip
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    try:
        if arguments.fine_tunes:
            check_bundle(arguments.target)
            tell_fine_tunes(work_folder(), arguments.target, arguments.max_megabytes)
        elif not arguments.check:
            if arguments.base_alone:
                check_bundle(arguments.target)
            package(work_folder(), arguments.target, arguments.max_megabytes, settings, arguments.base_alone)
        check_bundle(arguments.target)
        check_size(arguments.target, arguments.max_megabytes)
    except (PackageRefused, PackshotError) as error:
        sys.exit(f"error: {error}")
    print(f"{arguments.target} is whole: {megabytes(arguments.target):.1f} MB")


def package(work: Path, target: Path, limit: float, settings: dict, base_alone: bool) -> None:
    """Makes the package beside `target` and renames it when all of it is there, small enough and proven."""
    temporary = target.with_name(f".{target.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    judge = target if base_alone else work
    check_parts(work, judge)
    try:
        for part in PARTS:
            pack((work if part == BASE else judge) / part, temporary / part, work)
        former = read(target / "README.md").decode() if base_alone else ""
        (temporary / "README.md").write_text(card(work, temporary, former))
        write_manifest(temporary)
        check_size(temporary, limit)
        prove(temporary, settings, work / "package-sheet.png")
        put_in_place(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    print(f"look at {work / 'package-sheet.png'}")


def check_parts(work: Path, judge: Path) -> None:
    """Every part must be complete before the first is packed."""
    examine(work / BASE, str(work / BASE), FileDigests(), refuse_pickles=True)
    for part, names in JUDGE_FILES.items():
        for name in names:
            read(judge / part / name)
    if not any((judge / CLIP / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise PackageRefused(f"{judge / CLIP} has no tokenizer.json and no vocab.json: run the judge's program again")


def read(path: Path) -> bytes:
    if not path.is_file():
        raise PackageRefused(f"{path} is missing: run the programs before this one first")
    return path.read_bytes()


def pack(source: Path, target: Path, work: Path) -> None:
    """Copies a model folder: weights in 16-bit floats, configurations without the names of local folders, nothing twice."""
    for path in sorted(path for path in source.rglob("*") if path.suffix in READ_SUFFIXES and path.is_file()):
        if source == work / CLIP and path.name in IN_TOKENIZER and path.with_name(TOKENIZER).is_file():
            continue
        written = target / path.relative_to(source)
        written.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".safetensors":
            halve(path, written)
        elif path.name == TOKENIZER:
            written.write_text(json.dumps(json.loads(path.read_bytes()), ensure_ascii=False, separators=(",", ":")))
        elif path.suffix == ".json" and (stripped := without_local_names(json.loads(path.read_bytes()))) is not None:
            written.write_text(json.dumps(stripped, indent=2) + "\n")
        else:
            shutil.copyfile(path, written)
        if path.suffix != ".safetensors" and str(work) in written.read_text():
            raise PackageRefused(f"{path} names the local folder {work}: remove that from the program that wrote it")


def halve(source: Path, target: Path) -> None:
    """Floats of any width become 16-bit ones; integers stay."""
    tensors = {name: each.half() if each.is_floating_point() else each for name, each in load_file(source).items()}
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise PackageRefused(f"{name} in {source} does not fit into 16-bit floats, or is not finite: train it anew")
    save_file(tensors, target, metadata={"format": "pt"})


def without_local_names(value: dict) -> dict | None:
    """A configuration without the folder that it was loaded from, in any depth; None where it names none."""
    stripped = {key: each for key, each in value.items() if key not in LOCAL_NAMES}
    inner = {key: without_local_names(each) for key, each in stripped.items() if isinstance(each, dict)}
    changed = {key: each for key, each in inner.items() if each is not None}
    return stripped | changed if changed or len(stripped) < len(value) else None


def megabytes(folder: Path) -> float:
    """Size of all files in 10^6 bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def check_size(folder: Path, limit: float) -> None:
    if megabytes(folder) > limit:
        parts = ", ".join(f"{part} {megabytes(folder / part):.1f}" for part in PARTS)
        raise PackageRefused(f"the package has {megabytes(folder):.1f} MB ({parts}); at most {limit:g} are allowed")


@torch.inference_mode()
def prove(weights: Path, settings: dict, sheet: Path) -> None:
    """Loads everything as users do, draws one picture a prompt, and lets the judge look at them."""
    pipeline = StableDiffusionPipeline.from_pretrained(weights / BASE, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    prompts, base = settings["sheet_prompts"], section("base")
    pictures = pipeline(
        prompts, num_inference_steps=base["inference_steps"], guidance_scale=base["guidance_scale"], output_type="np",
        generator=[torch.Generator().manual_seed(section("seed")) for _ in prompts],
    ).images  # fmt: skip
    pixels = [(picture * 255).round().astype(np.uint8) for picture in pictures]
    pngs = [encode_png(Image.fromarray(each)) for each in pixels]
    judge = TransformersJudge(weights / EMBEDDER, weights / CLIP)
    figures = [*judge.adherence(pngs, prompts), *(x for row in judge.embed(pngs, [None] * len(pngs)) for x in row)]
    if not np.isfinite(figures).all() or not np.isfinite(pictures).all():
        raise PackageRefused(
            "the packaged models give figures that are not finite: their weights need more than 16 bits"
        )
    write_sheet(sheet, [pixels[start : start + 4] for start in range(0, len(pixels), 4)])


def put_in_place(temporary: Path, target: Path) -> None:
    """The new package under its name; the former one is gone only when the new one stands."""
    former = target.with_name(f".{target.name}.former")
    shutil.rmtree(former, ignore_errors=True)
    if target.exists():
        target.rename(former)
    try:
        temporary.rename(target)
    except OSError:
        if former.exists():
            former.rename(target)
        raise
    shutil.rmtree(former, ignore_errors=True)


# ---- the model card ---------------------------------------------------------------------------------------------


def card(work: Path, weights: Path, former: str) -> str:
    """model_card.md with what was trained, on what, and the figures that the programs left.

    What was not trained anew keeps its rows of the `former` card, if there is one.
    """
    config = json.loads((weights / BASE / "unet/config.json").read_bytes())
    rows = json_lines(work / "corpus/index.jsonl")
    counts = Counter((row["source"], row["split"]) for row in rows)
    return Template((RECIPE / "model_card.md").read_text()).substitute(
        parts=table(("part", "parameters", "MB"), part_rows(weights)),
        prediction_type=prediction_type(weights / BASE, BASE),
        channels=config["in_channels"],
        counts=table(("pictures", "trained on", "for validation", "held out"), (
            (f"{source}s", *(counts[source, split] for split in ("train", "validation", "held-out")))
            for source in ("render", "photo")
        )),
        held_out=", ".join(section("data")["held_out"]),
        training=table(("trained", "steps", "minutes", "last logged losses"), training_rows(work, former)),
        figures=table(("program", "figure", "value"), figure_rows(work, former)),
        fine_tunes=fine_tunes(work),
    )  # fmt: skip


def tell_fine_tunes(work: Path, weights: Path, limit: float) -> None:
    """Puts the figures of fine-tunes, which are measured on a package, into its card."""
    path = weights / "README.md"
    before, heading, rest = path.read_text().partition(FINE_TUNES)
    if not heading:
        raise PackageRefused(f"{path} has no part {FINE_TUNES.strip()!r}: package anew")
    told = before + heading + fine_tunes(work) + "\n\n" + rest[rest.index("## ") :]
    added = len(told.encode()) - path.stat().st_size
    if megabytes(weights) + added / 1e6 > limit:
        raise PackageRefused(
            f"the figures would make the package {added} bytes larger than it is: at most {limit:g} MB"
        )
    path.write_text(told)
    write_manifest(weights)


def fine_tunes(work: Path) -> str:
    """Tables of what 08 has measured of the sample catalog and of real varieties."""
    path = work / "fine_tunes/report.json"
    report = json.loads(path.read_bytes()) if path.is_file() else {}
    tables = [ABOUT_FINE_TUNES]
    for kind, columns in FINE_TUNE_COLUMNS.items():
        of_kind = {name: each for name, each in report.items() if all(keys[0] in each for keys in columns.values())}
        rows = [(name, *(shown(each, *keys) for keys in columns.values())) for name, each in of_kind.items()]
        tables += [table((kind, *columns), rows)] if rows else []
    return "\n\n".join(tables) if tables[1:] else "Not measured on these weights."


def shown(figures: dict, first: str, beside: str = "") -> str:
    """A figure, and what it is compared with in brackets."""
    if figures[first] is None:
        return "interrupted"
    return f"{figures[first]:.3g}" + (f" ({figures[beside]:.3g})" if beside else "")


def table(headings: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    lines = [headings, ["---"] * len(tuple(headings)), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def part_rows(weights: Path) -> Iterable[tuple[str, str, str]]:
    """Each file of weights: its folder, millions of parameters, and size."""
    for name, entry in measure(weights).items():
        if name.endswith(".safetensors"):
            count = sum(tensor.numel() for tensor in load_file(weights / name).values())
            yield str(Path(name).parent), f"{count / 1e6:.2f} M", f"{entry['num_bytes'] / 1e6:.1f}"


def training_rows(work: Path, former: str) -> Iterable[tuple[object, ...]]:
    """What the loss logs end with."""
    for name, folder in RUNS.items():
        if former and folder != "base_run":
            yield from rows_of(former, "## Training", name)
            continue
        last = json_lines(work / folder / "losses.jsonl")[-1]
        losses = {key: value for key, value in last.items() if key not in ("step", "spent_s", "gradient_norm")}
        validation = work / folder / "validation.jsonl"
        if validation.is_file():
            losses["validation"] = json_lines(validation)[-1]["loss"]
        minutes = f"{last['spent_s'] / 60:.0f}"
        yield name, int(last["step"]), minutes, ", ".join(f"{key} {value:.4g}" for key, value in losses.items())


def figure_rows(work: Path, former: str) -> Iterable[tuple[object, ...]]:
    """Every number of every report.json; those of the autoencoder and the judge must be there, or in the former card."""
    required = [work / "autoencoder/report.json", work / "judge/report.json"]
    for path in sorted({*required, *work.glob("*/report.json")} - {work / "fine_tunes/report.json"}):
        if former and path in required:
            yield from rows_of(former, "## Figures", path.parent.name)
            continue
        for name, value in numbers(json.loads(read(path))):
            yield path.parent.name, name.replace("_", " "), str(value) if isinstance(value, int) else f"{value:.4g}"


def rows_of(card: str, heading: str, name: str) -> Iterable[tuple[str, ...]]:
    """The rows of a card's part that begin with the name."""
    for line in card.partition(heading)[2].partition("\n## ")[0].splitlines():
        cells = tuple(cell.strip() for cell in line.strip("|").split("|"))
        if cells[0] == name:
            yield cells


def numbers(report: dict, prefix: str = "") -> Iterable[tuple[str, int | float]]:
    """The numbers of a report by name, those of its sections behind the section's name."""
    for key, value in report.items():
        if isinstance(value, dict):
            yield from numbers(value, f"{prefix}{key}: ")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{key}", value


def json_lines(path: Path) -> list[dict]:
    rows = [json.loads(line) for line in read(path).splitlines()]
    if not rows:
        raise PackageRefused(f"{path} is empty: run the programs before this one first")
    return rows


if __name__ == "__main__":
    main()
