"""The page on methods says what the result file holds, and advises the method with the most merit."""

import json
from pathlib import Path

import pytest

from packshot.embedded.bundle import bundled_base_version

DOCS = Path(__file__).parents[2] / "docs"


def figures(**changes: float) -> dict[str, float]:
    plain = {"fidelity": 0.6, "adherence": 0.7, "drift": 0.1, "diversity": 0.2, "nearest category": 1.0}
    return {**plain, "not rejected": 1.0, "steps": 200, "training": 100.0, "weights": 6.0, **changes}


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The methods measured with today's bundled base, the presets with another one."""
    monkeypatch.syspath_prepend(DOCS)
    import methods_page

    methods = {
        "faithful": figures(fidelity=0.8, adherence=0.35),
        "balanced": figures(fidelity=0.7),
        "small": figures(fidelity=0.55, weights=0.002, drift=0.0),
        "wild": figures(fidelity=0.75, drift=0.9, **{"not rejected": 0.0}),
    }
    known = {"real photos": {"fidelity": 0.9}, "bare base": {"fidelity": 0.5, "adherence": 0.7}}
    rows = [
        {"label": f"stable-diffusion / {name} / {figure}", "value": value}
        for name, each in {**known, **methods}.items()
        for figure, value in each.items()
    ]
    rows += [{"label": f"flux / {name} / runs", "value": float(name != "wild")} for name in methods]
    machine = {"processor": "a processor", "threads": 2}
    presets = {**known, "draft": figures(steps=100), "best": figures(**{"steps": 400, "steps kept": 250})}
    of_presets = [
        {"label": f"stable-diffusion / {name} / {figure}", "value": value}
        for name, each in presets.items()
        for figure, value in each.items()
    ]
    for name, found, base in (
        ("12-methods.json", rows, bundled_base_version()),
        ("15-presets.json", of_presets, "another"),
    ):
        document = {
            "command": "measured so",
            "date": "2026-01-01",
            "machine": machine,
            "bundled_base": base,
            "rows": found,
        }
        (tmp_path / name).write_text(json.dumps(document))
    monkeypatch.setattr(methods_page, "RESULTS", tmp_path)
    return methods_page.methods_page()


def test_the_method_with_the_most_merit_is_advised_and_what_others_are_better_at_is_said(page: str) -> None:
    assert "**Take `balanced`**: of what was measured here it has the most merit, 0.45." in page
    assert "`faithful` is the most faithful (0.80)" in page
    assert "`small` is the smallest on disk (0.002 MB)" in page
    assert "The gate rejects `wild`." in page


def test_methods_stand_in_the_order_of_their_merit_above_what_they_are_compared_with(page: str) -> None:
    table = [line.split(" | ")[0] for line in page.splitlines() if line.startswith("| ")]
    assert table[1:7] == ["| balanced", "| faithful", "| small", "| wild", "| bare base", "| real photos"]


def test_what_fails_on_a_family_is_shown(page: str) -> None:
    assert "| flux | runs | runs | runs | fails |" in page


def test_presets_have_a_table_of_their_own_with_the_steps_that_were_kept(page: str) -> None:
    table = page.split("## Presets, measured")[1].splitlines()
    best = next(line for line in table if line.startswith("| best |"))
    assert best.split(" | ")[6] == "250"
    assert any(line.startswith("| draft |") for line in table)


def test_figures_of_a_former_bundled_base_are_said_to_be_so(page: str) -> None:
    methods, presets = page.split("## Presets, measured")
    assert "2026-01-01, a processor" in methods
    assert "2026-01-01, with a former bundled base and the defaults of that time, a processor" in presets
