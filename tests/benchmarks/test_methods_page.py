"""The page on methods says what the result file holds, and advises the method with the most merit."""

import json
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def figures(**changes: float) -> dict[str, float]:
    plain = {"fidelity": 0.6, "adherence": 0.7, "drift": 0.1, "diversity": 0.2, "nearest category": 1.0}
    return {**plain, "not rejected": 1.0, "steps": 200, "training": 100.0, "weights": 6.0, **changes}


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
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
    result = tmp_path / "12-methods.json"
    result.write_text(json.dumps({"command": "measured so", "date": "2026-01-01", "machine": machine, "rows": rows}))
    monkeypatch.setattr(methods_page, "RESULT", result)
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
