"""The quick versions of the fault tests of the platform that the suite has nowhere else, in a process of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
NUMBERS = (5, 13, 14, 15, 16, 17, 18, 19, 20, 22, 28)


def test_what_must_hold_does(tmp_path: Path) -> None:
    path = os.pathsep.join([str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "faults", *map(str, NUMBERS), "--quick", "--out", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    results = [json.loads(file.read_text()) for file in sorted(tmp_path.glob("faults-*.json"))]
    assert tuple(result["number"] for result in results) == NUMBERS
    assert all(check["holds"] and check["cases"] for result in results for check in result["checks"])
