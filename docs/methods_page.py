"""The page on methods and families, from the result file of ``python -m benchmarks 12``. Measures nothing."""

import json
from collections.abc import Mapping
from pathlib import Path

RESULT = Path(__file__).parents[1] / "benchmarks" / "results" / "12-methods.json"
SCORED = "stable-diffusion"
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
"""


def methods_page() -> str:
    """The page."""
    document = json.loads(RESULT.read_text(encoding="utf-8"))
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for row in document["rows"]:
        family, method, figure = row["label"].split(" / ")
        figures.setdefault(family, {}).setdefault(method, {})[figure] = row["value"]
    scored = figures.pop(SCORED)
    known = {name: scored.pop(name) for name in ("bare base", "real photos")}
    merits = {name: _merit(each, known) for name, each in scored.items()}
    machine = document["machine"]
    lines = ["# Methods and families", "", "<!-- Written by docs/build.py from benchmarks/results/12-methods.json. -->"]
    lines += ["", _ABOUT, "## Stable Diffusion, measured", ""]
    lines += [
        f"On the bundled base, one category (`produce/apple/honeycrisp`), the defaults of each method, {document['date']}, "
        f"{machine['processor']}, {machine['threads']} threads (`{document['command']}`). One category and one seed: "
        "small differences mean nothing."
    ]
    lines += ["", f"| method | {' | '.join(_COLUMNS)} | merit |", "|---|" + "---|" * (len(_COLUMNS) + 1)]
    for name in sorted(scored, key=lambda name: -merits[name]):
        lines.append(_line(name, scored[name], f"{merits[name]:.2f}"))
    lines += [_line(name, each, "") for name, each in known.items()]
    lines += ["", _advice(scored, merits), "", "## The other families", ""]
    lines += [
        "Runs, not scored: tiny pipelines of random weights, which show that a pair trains, saves and makes a picture.",
        "",
        f"| family | {' | '.join(scored)} |",
        "|---|" + "---|" * len(scored),
    ]
    for family, methods in figures.items():
        cells = ["runs" if methods[name]["runs"] == 1 else "fails" for name in scored]
        lines.append(f"| {family} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _merit(method: Mapping[str, float], known: Mapping[str, Mapping[str, float]]) -> float:
    bare, real = known["bare base"], known["real photos"]
    closed = (method["fidelity"] - bare["fidelity"]) / (real["fidelity"] - bare["fidelity"])
    return closed * min(1.0, method["adherence"] / bare["adherence"]) * (1 - method["drift"])


def _line(name: str, figures: Mapping[str, float], merit: str) -> str:
    units = {"training": " s", "weights": " MB", "steps": ""}
    cells: list[str] = []
    for column in _COLUMNS:
        value = figures.get(column)
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
