"""What every benchmark shares: rounds, aims, and the file that the docs are made from."""

import importlib
import json
from pathlib import Path

import pytest

from packshot.embedded.bundle import bundled_base_version

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)


def test_rounds_alternate_and_the_first_one_does_not_count() -> None:
    from benchmarks.harness import interleaved

    calls: list[str] = []

    def contestant(name: str):
        def run() -> float:
            calls.append(name)
            return len(calls)

        return run

    found = interleaved({"a": contestant("a"), "b": contestant("b")}, 2)
    assert calls == ["a", "b"] * 3
    assert found == {"a": [3, 5], "b": [4, 6]}


def test_an_aim_is_on_the_ratio_where_there_is_a_peer_and_on_the_value_otherwise() -> None:
    from benchmarks.harness import Row, versus

    faster = versus("step", [1.0, 9.0, 2.0], [4.0, 3.0, 100.0], "s", at_least=2.0)
    assert (faster.value, faster.peer_value, faster.ratio, faster.holds) == (2.0, 4.0, 2.0, True)
    assert versus("step", [2.0], [3.0], "s", at_least=2.0).holds is False
    assert Row(label="share", value=0.59, unit="", at_least=0.6).holds is False
    assert Row(label="peak", value=1.0, unit="").holds is None


def test_the_result_file_says_how_where_and_when(tmp_path: Path) -> None:
    from benchmarks.harness import Measured, Row, write

    row = Row(label="step", value=0.123456, unit="s", peer_value=0.5, ratio=4.05, at_least=1.7, least=0.1)
    measured = Measured(number=5, name="train_one", command="python -m benchmarks 5", threads=2, rows=[row])
    path = write(measured, tmp_path / "results")
    document = json.loads(path.read_text())
    assert path.name == "05-train-one.json"
    assert document["command"] == "python -m benchmarks 5"
    assert document["machine"]["threads"] == 2
    assert document["bundled_base"] == bundled_base_version()
    assert document["rows"] == [
        {
            "label": "step",
            "unit": "s",
            "value": 0.1235,
            "peer_value": 0.5,
            "ratio": 4.05,
            "min": 0.1,
            "peer_min": None,
            "aim": ">= 1.7",
            "holds": True,
        }
    ]


def test_every_number_has_a_module_that_measures() -> None:
    from benchmarks.__main__ import BENCHMARKS

    for name in BENCHMARKS.values():
        assert callable(importlib.import_module(f"benchmarks.{name}").measure)


def test_the_small_shape_keeps_the_proportions_of_the_real_one() -> None:
    from benchmarks.train_one import proportions

    for row in proportions():
        assert row.peer_value is not None
        assert row.value == pytest.approx(row.peer_value, rel=0.1)
