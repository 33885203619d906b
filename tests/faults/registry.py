"""What every fault test shares: its number, what it is told, what it counts, the result file. Breaks nothing."""

import importlib
import json
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.harness import machine

MOST_FAILURES = 20  # as many are told in full


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How thoroughly to test, in which empty folder, and from which seed; ``quick`` is at most some seconds."""

    quick: bool
    seed: int
    workdir: Path


@dataclass(frozen=True, kw_only=True)
class Check:
    """One claim: of ``cases`` tries it held in ``passed``, which must be a share of ``at_least``.

    ``failures`` say enough of each case that did not hold to repeat it; ``note`` may give a measurement.
    """

    label: str
    cases: int
    passed: int
    at_least: float = 1.0
    failures: Sequence[str] = ()
    note: str = ""

    @property
    def holds(self) -> bool:
        """Whether it held often enough; never where nothing was tried."""
        return self.cases > 0 and self.passed >= self.at_least * self.cases


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault test: ``passes`` is the claim in words."""

    number: int
    name: str
    passes: str
    run: Callable[[Setting], list[Check]]


FAULTS: dict[int, Fault] = {}


def fault(
    number: int, name: str, *, passes: str
) -> Callable[[Callable[[Setting], list[Check]]], Callable[[Setting], list[Check]]]:
    """Register a function as the fault test ``number``."""

    def registered(run: Callable[[Setting], list[Check]]) -> Callable[[Setting], list[Check]]:
        assert number not in FAULTS, f"fault test {number} is there already: {FAULTS[number].name}"
        FAULTS[number] = Fault(number=number, name=name, passes=passes, run=run)
        return run

    return registered


def all_faults() -> dict[int, Fault]:
    """The fault tests of all modules of this package, by number."""
    folder = Path(__file__).parent
    for module in pkgutil.iter_modules([str(folder)]):
        if module.name != "__main__":
            importlib.import_module(f"{__package__}.{module.name}")
    return dict(sorted(FAULTS.items()))


def write(of: Fault, checks: Sequence[Check], folder: Path, *, command: str, seed: int, seconds: float) -> Path:
    """Write the result file; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"faults-{of.number:02d}-{of.name.replace(' ', '-')}.json"
    document = {
        "number": of.number,
        "name": of.name,
        "passes": of.passes,
        "command": command,
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(threads=1),
        "seed": seed,
        "seconds": round(seconds),
        "holds": holds(checks),
        "checks": [_to_json(each) for each in checks],
    }
    path.write_text(json.dumps(document, indent=1) + "\n")
    return path


def _to_json(check: Check) -> dict[str, object]:
    return {
        "label": check.label,
        "cases": check.cases,
        "passed": check.passed,
        "aim": check.at_least,
        "holds": check.holds,
        "note": check.note,
        "failures": list(check.failures)[:MOST_FAILURES],
    }


def holds(checks: Sequence[Check]) -> bool:
    """Whether all claims hold; never where there are none."""
    return bool(checks) and all(each.holds for each in checks)
