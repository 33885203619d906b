"""The page on methods, families and presets, from what ``python -m benchmarks 12`` and ``15`` found. Measures nothing."""

import json
from collections.abc import Mapping
from pathlib import Path

from packshot.embedded.bundle import bundled_base_version

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
SCORED = "stable-diffusion"
_KNOWN = ("bare base", "real photos")
_COLUMNS = ("fidelity", "adherence", "drift", "diversity", "nearest category", "steps", "training", "weights")
_ABOUT = """\
Every method works with every family. Which one to take is a question of what counts: likeness, obedience to the prompt,
how much else of the base changes, time, and disk.

- *fidelity*: likeness of the pictures to photos that the training never saw. *adherence*: likeness of picture and prompt.
- *drift*: how far pictures of the plain class moved away from the base's. *diversity*: how much pictures of one prompt
  differ.
- *nearest category*: share of pictures that are nearer to this product than to the other categories of its class.
- *merit*: the share of the way from the bare base's fidelity to that of real photos, times the share of adherence that
  is kept, times 1 - drift.

Seconds of the two tables are of different runs, with other work beside each: compare them within a table.
"""


Figures = dict[str, dict[str, float]]


def methods_page() -> str:
    """The page."""
    families, measured = _read("12-methods.json")
    presets, chosen = _read("15-presets.json")
    scored = families.pop(SCORED)
    methods = {name: each for name, each in scored.items() if name not in _KNOWN}
    merits = {name: _merit(each, scored) for name, each in methods.items()}
    return "\n".join([
        "# Methods and families", "", "<!-- Written by docs/build.py from benchmarks/results. -->", "", _ABOUT,
        "## Stable Diffusion, measured", "",
        f"On the bundled base, one category (`produce/apple/honeycrisp`), the defaults of each method, {measured}. One "
        "category and one seed: small differences mean nothing.", "",
        *_table("method", scored), "", _advice(methods, merits), "",
        "## Presets, measured", "",
        f"The default method with each preset, the same category, {chosen}. `best` is a training that chooses its steps.", "",
        *_table("preset", presets[SCORED]), "",
        "## The other families", "",
        "Runs, not scored: tiny pipelines of random weights, which show that a pair trains, saves and makes a picture.", "",
        f"| family | {' | '.join(methods)} |",
        "|---|" + "---|" * len(methods),
        *(f"| {family} | {' | '.join('runs' if each[name]['runs'] == 1 else 'fails' for name in methods)} |"
          for family, each in families.items()),
        "",
    ])  # fmt: skip


def _read(name: str) -> tuple[dict[str, Figures], str]:
    """Figures by family and method, and how they were measured, also if that was with another bundled base than today's."""
    document = json.loads((RESULTS / name).read_text(encoding="utf-8"))
    found: dict[str, Figures] = {}
    for row in document["rows"]:
        family, method, figure = row["label"].split(" / ")
        found.setdefault(family, {}).setdefault(method, {})[figure] = row["value"]
    machine = document["machine"]
    former = (
        ""
        if document["bundled_base"] == bundled_base_version()
        else ", with a former bundled base and the defaults of that time"
    )
    how = f"{document['date']}{former}, {machine['processor']}, {machine['threads']} threads (`{document['command']}`)"
    return found, how


def _table(heading: str, scored: Figures) -> list[str]:
    """A row for each, the most merit first, and what bare base and real photos have."""
    merits = {name: _merit(each, scored) for name, each in scored.items() if name not in _KNOWN}
    return [
        f"| {heading} | {' | '.join(_COLUMNS)} | merit |",
        "|---|" + "---|" * (len(_COLUMNS) + 1),
        *(_line(name, scored[name], f"{merits[name]:.2f}") for name in sorted(merits, key=lambda name: -merits[name])),
        *(_line(name, scored[name], "") for name in _KNOWN),
    ]


def _merit(method: Mapping[str, float], known: Mapping[str, Mapping[str, float]]) -> float:
    bare, real = known["bare base"], known["real photos"]
    closed = (method["fidelity"] - bare["fidelity"]) / (real["fidelity"] - bare["fidelity"])
    return closed * min(1.0, method["adherence"] / bare["adherence"]) * (1 - method["drift"])


def _line(name: str, figures: Mapping[str, float], merit: str) -> str:
    units = {"training": " s", "weights": " MB", "steps": ""}
    cells: list[str] = []
    for column in _COLUMNS:
        value = figures.get("steps kept", figures.get(column)) if column == "steps" else figures.get(column)
        if value is None:
            cells.append("")
        elif column in units:
            cells.append(f"{value:.3g}{units[column]}")
        else:
            cells.append(f"{max(0.0, value):.2f}" if column == "drift" else f"{value:.2f}")
    return f"| {name} | {' | '.join(cells)} | {merit} |"


def _advice(scored: Mapping[str, Mapping[str, float]], merits: Mapping[str, float]) -> str:
    best = max(merits, key=lambda name: merits[name])
    smallest = min(scored, key=lambda name: scored[name]["weights"])
    most_faithful = max(scored, key=lambda name: scored[name]["fidelity"])
    least_drift = min(
        (name for name in scored if merits[name] >= merits[best] / 2), key=lambda name: scored[name]["drift"]
    )
    told = f"**Take `{best}`**: of what was measured here it has the most merit, {merits[best]:.2f}."
    if most_faithful != best:
        told += (
            f" `{most_faithful}` is the most faithful ({scored[most_faithful]['fidelity']:.2f}), at a price elsewhere."
        )
    if least_drift != best:
        told += f" `{least_drift}` changes least of the base ({scored[least_drift]['drift']:.2f}) of those with half as much merit."
    if smallest != best:
        told += f" `{smallest}` is the smallest on disk ({scored[smallest]['weights']:.2g} MB)."
    rejected = [f"`{name}`" for name, each in scored.items() if each["not rejected"] != 1]
    if rejected:
        told += f" The gate rejects {', '.join(rejected)}."
    return told
