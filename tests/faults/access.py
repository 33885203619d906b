"""Fault test 21: the access matrix, whose cases are tests of the suite, each counted here under what it claims."""

import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

from faults.registry import Check, Setting, fault

ROOT = Path(__file__).parents[2]
MATRIX = "tests/unit/web/test_access.py"


@fault(21, "access matrix", passes="always 401, 403 or 404; a new route without a rule fails the suite")
def access_matrix(setting: Setting) -> list[Check]:
    """Every route of the OpenAPI document: other team, no key, a revoked one, one without the scope."""
    report = setting.workdir / "report.xml"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", MATRIX],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert report.is_file(), done.stdout + done.stderr
    cases: dict[str, list[str]] = defaultdict(list)
    for each in ElementTree.parse(report).iter("testcase"):
        held = not any(each.iter("failure")) and not any(each.iter("error")) and not any(each.iter("skipped"))
        name = each.get("name", "")
        cases[re.sub(r"\[.*", "", name)].append("" if held else name)
    return [
        Check(
            label=test.removeprefix("test_").replace("_", " "),
            cases=len(outcomes),
            passed=outcomes.count(""),
            failures=[each for each in outcomes if each],
        )
        for test, outcomes in cases.items()
    ]
