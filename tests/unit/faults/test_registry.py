"""The registry of fault tests: what counts as held, and what a result file says."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)


def test_a_claim_holds_where_it_was_tried_and_held_often_enough() -> None:
    from faults.registry import Check, holds

    every = Check(label="every time", cases=3, passed=3)
    once_not = Check(label="once not", cases=3, passed=2)
    assert every.holds
    assert not once_not.holds
    assert not Check(label="never tried", cases=0, passed=0).holds
    assert Check(label="nine of ten", cases=10, passed=9, at_least=0.9).holds
    assert not Check(label="eight of ten", cases=10, passed=8, at_least=0.9).holds
    assert holds([every])
    assert not holds([every, once_not])
    assert not holds([])


def test_a_number_is_given_once_and_the_result_file_says_what_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from faults import registry
    from faults.registry import Check, fault, write

    monkeypatch.setattr(registry, "FAULTS", {})

    @fault(13, "flipped bits", passes="always caught")
    def flipped(_: registry.Setting) -> list[Check]:
        return [Check(label="caught", cases=30, passed=0, failures=[f"bit {number}" for number in range(30)])]

    with pytest.raises(AssertionError, match="13 is there already: flipped bits"):
        fault(13, "other", passes="")(flipped)
    of = registry.FAULTS[13]
    setting = registry.Setting(quick=True, seed=7, workdir=tmp_path)
    path = write(of, of.run(setting), tmp_path / "results", command="python -m faults 13", seed=7, seconds=1.6)
    document = json.loads(path.read_text())
    assert path.name == "faults-13-flipped-bits.json"
    assert {name: document[name] for name in ("number", "passes", "command", "seed", "seconds", "holds")} == {
        "number": 13,
        "passes": "always caught",
        "command": "python -m faults 13",
        "seed": 7,
        "seconds": 2,
        "holds": False,
    }
    (check,) = document["checks"]
    assert (check["label"], check["cases"], check["passed"], check["aim"], check["holds"]) == (
        "caught",
        30,
        0,
        1,
        False,
    )
    assert len(check["failures"]) == 20
