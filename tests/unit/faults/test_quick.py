"""The quick versions of the fault tests that kill processes, each in a process of its own, which may fork."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("number", [1, 2])
def test_what_must_hold_does(number: int, tmp_path: Path) -> None:
    path = os.pathsep.join([str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "faults", str(number), "--quick", "--out", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    (result,) = tmp_path.glob(f"faults-{number:02d}-*.json")
    document = json.loads(result.read_text())
    assert document["holds"]
    assert document["checks"]
    assert all(check["holds"] and check["cases"] for check in document["checks"])
