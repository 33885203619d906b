"""The page of benchmarks, from the result files of ``python -m benchmarks``. Measures nothing."""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
_ABOUT = """\
Every figure is measured on one machine in one run with the peer beside it, in rounds that take turns; values are medians. A
ratio says how many times better than the peer, and is reported only where the outputs are equal: the largest difference stands in the
table. Run one again with `python -m benchmarks NUMBER`; `--quick` takes fewer rounds and keeps its result apart. *Extrapolated* figures
are called so. How the engine mixes categories is explained in [the page on the engine](engine.md).
"""
_PAGES = {"methods": "methods.md", "presets": "methods.md"}
_PLOTS = {"mixed_batch": ("../images/mixed-batch.png", "Time of a mixed batch beside its peers")}


def benchmarks_page(folder: Path = RESULTS) -> str:
    """The page, with a table for each result file in ``folder``."""
    lines = ["# Benchmarks", "", "<!-- Written by docs/build.py from benchmarks/results. -->", "", _ABOUT]
    for path in sorted(folder.glob("[0-9][0-9]-*.json")):
        lines += _section(int(path.name[:2]), json.loads(path.read_text(encoding="utf-8")))
    return "\n".join(lines)


def _section(number: int, document: dict[str, Any]) -> list[str]:
    machine = document["machine"]
    lines = [f"## {number}. {document['name'].replace('_', ' ').capitalize()}", ""]
    if document["name"] in _PAGES:
        return [*lines, f"On [a page of its own]({_PAGES[document['name']]}).", ""]
    lines += [
        f"`{document['command']}`, {document['date']}, {machine['processor']}, {machine['threads']} of "
        f"{machine['cores']} cores, torch {machine['torch']}.",
        "",
        "| figure | value | unit | peer | ratio | aim | holds |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in document["rows"]:
        holds = {True: "yes", False: "**no**", None: ""}[row["holds"]]
        value, peer, ratio = (_number(row[name]) for name in ("value", "peer_value", "ratio"))
        lines.append(f"| {row['label']} | {value} | {row['unit']} | {peer} | {ratio} | {row['aim'] or ''} | {holds} |")
    if document["name"] in _PLOTS:
        picture, about = _PLOTS[document["name"]]
        lines += ["", f"![{about}]({picture})"]
    return [*lines, ""]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
