"""Draws the pictures of the guide to the engine, and the plot of benchmark 3 from its result file."""

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot
from matplotlib.patches import FancyArrowPatch, Rectangle

mpl.use("Agg")
IMAGES = Path(__file__).parent / "images"
RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
COLOURS = {"apple": "#c0504d", "pear": "#9bbb59", "mug": "#4f81bd", "shoe": "#8064a2", "": "#eeeeee"}
INK, PAPER = "#333333", "white"


def _axes(width: float, height: float, right: float, top: float) -> Any:
    figure, axes = pyplot.subplots(figsize=(width, height), dpi=130)
    figure.patch.set_facecolor(PAPER)
    axes.set_xlim(0, right)
    axes.set_ylim(0, top)
    axes.axis("off")
    return axes


def _box(axes: Any, x: float, y: float, width: float, height: float, colour: str, text: str = "") -> None:
    axes.add_patch(Rectangle((x, y), width, height, facecolor=colour, edgecolor=PAPER, linewidth=1.5))
    ink = INK if colour in (COLOURS[""], "#dddddd", PAPER) else PAPER
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=8, color=ink)


def _arrow(axes: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=11, color=INK, linewidth=1.1))


def _save(name: str) -> None:
    pyplot.savefig(IMAGES / name, bbox_inches="tight", metadata={"Software": None})
    pyplot.close()


def steps() -> None:
    """Rows of the batch over time: who is in it, at which of its own steps."""
    axes = _axes(8.4, 2.7, 9.6, 4.2)
    rows = [
        [("apple", 17, 20)] * 4 + [("pear", 1, 8)] * 4,
        [("mug", 3, 12)] * 8,
        [("", 0, 0)] * 2 + [("shoe", 1, 4)] * 4 + [("apple", 1, 20)] * 2,
    ]
    for number, row in enumerate(rows):
        y = 2.6 - number
        axes.text(0.1, y + 0.4, f"place {number + 1}", va="center", fontsize=9, color=INK)
        began = 0
        for at, (name, first, last) in enumerate(row):
            began = at if at and row[at - 1] != row[at] else began
            told = f"{name}\n{first + at - began} of {last}" if name else "free"
            _box(axes, 1.4 + at, y, 1, 0.8, COLOURS[name], told)
    for at in range(8):
        axes.text(1.9 + at, 3.65, f"pass {at + 41}", ha="center", fontsize=8, color=INK)
    axes.text(
        1.4,
        0.2,
        "A column is one pass of its pictures through the denoiser; each picture counts its own steps.",
        fontsize=9,
        color=INK,
    )
    _save("engine-steps.png")


def adapters() -> None:
    """One layer: the frozen product for the whole batch, and each row's own two small ones."""
    axes = _axes(8.4, 4.4, 12.2, 6.4)
    names = ["apple", "apple", "mug", "mug", "mug", "shoe", "", ""]
    axes.text(0.2, 6.05, "tables of the layer,\none row a rank", fontsize=9, color=INK, va="center")
    for number, name in enumerate(names):
        y = 5.1 - 0.42 * number
        _box(axes, 0.2, y, 1.5, 0.4, COLOURS[name], f"down {name}" if name else "free")
        _box(axes, 1.9, y, 1.1, 0.4, COLOURS[name], f"up {name}" if name else "free")
    _box(axes, 0.2, 1.74, 1.5, 0.4, COLOURS[""], "zeros")
    _box(axes, 1.9, 1.74, 1.1, 0.4, COLOURS[""], "zeros")
    batch = ["mug", "apple", ""]
    axes.text(4.4, 6.05, "batch", fontsize=9, color=INK, va="center")
    for number, name in enumerate(batch):
        y = 4.6 - 1.6 * number
        _box(axes, 4.1, y, 1.4, 0.9, COLOURS[name], f"picture\n({name or 'no adapter'})")
        _arrow(axes, (5.5, y + 0.65), (6.6, y + 0.65))
        _box(axes, 6.6, y + 0.3, 1.7, 0.7, "#dddddd", "frozen layer")
        _box(axes, 8.5, y - 0.28, 1.9, 0.55, COLOURS[name], "its down, its up" if name else "zeros")
        _arrow(axes, (5.5, y + 0.15), (8.45, y))
        _arrow(axes, (10.4, y), (11.0, y + 0.4))
        _arrow(axes, (8.3, y + 0.65), (10.95, y + 0.6))
        axes.text(11.15, y + 0.55, "+", fontsize=15, color=INK, va="center", ha="center")
    axes.text(7.45, 6.05, "one product\nfor the batch", ha="center", va="center", fontsize=9, color=INK)
    axes.text(9.75, 6.05, "one batched product\nof gathered rows", fontsize=9, color=INK, va="center", ha="center")
    axes.text(
        0.2,
        0.6,
        "Loading copies rows into the tables. Switching changes row numbers. Nothing of the base moves.",
        fontsize=9,
        color=INK,
    )
    _save("engine-adapters.png")


def mixed_batch() -> None:
    """Milliseconds a picture of benchmark 3."""
    path = RESULTS / "03-mixed-batch.json"
    if not path.is_file():
        return
    times: dict[str, dict[int, float]] = {}
    for row in json.loads(path.read_text(encoding="utf-8"))["rows"]:
        size, _, peer = row["label"].partition(", against ")
        if peer and "new batch" not in size:
            number = int(size.removeprefix("K = "))
            times.setdefault("Packshot, a category a row", {})[number] = row["value"]
            times.setdefault(peer, {})[number] = row["peer_value"]
    _, axes = pyplot.subplots(figsize=(6.4, 3.6), dpi=130)
    for name, marker in zip(times, "osd^", strict=True):
        sizes = sorted(times[name])
        axes.plot(sizes, [1000 * times[name][size] / size for size in sizes], marker=marker, label=name)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set_ylim(0)
    axes.set_xlabel("rows of the batch, each of another category")
    axes.set_ylabel("processor ms a row")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    _save("mixed-batch.png")


if __name__ == "__main__":
    steps()
    adapters()
    mixed_batch()
