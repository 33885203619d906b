"""Runs fault tests, prints what held, and writes ``benchmarks/results/faults-NN-name.json`` at full counts."""

import argparse
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from faults.registry import MOST_FAILURES, Check, Fault, Setting, all_faults, holds, write

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def main() -> int:
    """Exit code 1 where a claim does not hold."""
    faults = all_faults()
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    names = ", ".join(f"{each.number} {each.name}" for each in faults.values())
    parser.add_argument("numbers", type=int, nargs="*", metavar="NUMBER", help=f"{names}; all without one")
    parser.add_argument("--quick", action="store_true", help="a few cases; writes a result file only with --out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="the folder of the JSON files")
    arguments = parser.parse_args()
    unknown = set(arguments.numbers) - set(faults)
    if unknown:
        parser.error(f"no fault test has the number {min(unknown)}; there are: {names}")
    out = arguments.out or (None if arguments.quick else RESULTS)
    broken = False
    for number in arguments.numbers or faults:
        checks = _run(faults[number], quick=arguments.quick, seed=arguments.seed, out=out)
        broken = broken or not holds(checks)
    return 1 if broken else 0


def _run(of: Fault, *, quick: bool, seed: int, out: Path | None) -> list[Check]:
    start = time.monotonic()
    with TemporaryDirectory() as folder:
        checks = of.run(Setting(quick=quick, seed=seed, workdir=Path(folder)))
    seconds = time.monotonic() - start
    _print(of, checks, seconds)
    if out:
        command = f"python -m faults {of.number} --seed {seed}{' --quick' if quick else ''}"
        print(write(of, checks, out, command=command, seed=seed, seconds=seconds))
    return checks


def _print(of: Fault, checks: list[Check], seconds: float) -> None:
    table = Table(title=f"{of.number} {of.name}: {of.passes} ({seconds:.0f} s)")
    for heading in ("claim", "cases", "held", "note", "holds"):
        table.add_column(heading)
    for each in checks:
        table.add_row(each.label, str(each.cases), str(each.passed), each.note, "yes" if each.holds else "NO")
    Console().print(table)
    for each in checks:
        for failure in each.failures[:MOST_FAILURES]:
            print(f"{each.label}: {failure}")


if __name__ == "__main__":
    sys.exit(main())
