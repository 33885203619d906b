"""The benchmark of training a catalog runs, and measures what it says. No time is asserted."""

import json
import sys
from pathlib import Path

import pytest
import torch
from fixtures_pipelines import save_pipeline

ROOT = Path(__file__).parents[2]


def test_the_quick_run_measures_and_finds_equal_adapters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.training_group import main

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    out = tmp_path / "results" / "06.json"
    try:
        main(["--quick", "--base", str(save_pipeline(tmp_path / "base")), "--out", str(out)])
    finally:
        torch.set_num_threads(threads)
        sys.modules.pop("benchmarks.training_group", None)
    report = json.loads(out.read_text())
    assert set(report) == {"name", "command", "date", "machine", "rows"}
    against_reference, against_alone, equality = report["rows"]
    assert against_reference["ratio"] == pytest.approx(
        against_reference["peer_value"] / against_reference["value"], rel=1e-2
    )
    assert against_alone["holds"] is None
    assert equality["holds"] is True
