"""Measures one figure, prints its table and writes ``benchmarks/results/NN-name.json``."""

import argparse
import importlib
import sys
from pathlib import Path

from benchmarks.harness import Measured, Setting, print_table, write

BENCHMARKS = {
    1: "adapter_switch",
    2: "catalog_growth",
    3: "mixed_batch",
    4: "served_traffic",
    5: "train_one",
    6: "train_catalog",
    7: "roofline",
    8: "footprint",
    10: "platform_overhead",
    12: "methods",
    13: "real_size",
    14: "composition",
    15: "presets",
}
RESULTS = Path(__file__).parent / "results"
QUICK_RESULTS = Path("out") / "benchmarks"


def _number(text: str) -> int:
    return {name: number for number, name in BENCHMARKS.items()}.get(text) or int(text)


def main() -> int:
    """Exit code 1 where an aim is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = ", ".join(f"{number} {name}" for number, name in BENCHMARKS.items())
    parser.add_argument("number", type=_number, choices=BENCHMARKS, help=f"or name: {names}")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, at most a minute; not for publication")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help=f"the folder of the JSON file; {QUICK_RESULTS} for quick ones")
    arguments = parser.parse_args()
    name = BENCHMARKS[arguments.number]
    setting = Setting(quick=arguments.quick, threads=arguments.threads)
    rows = importlib.import_module(f"benchmarks.{name}").measure(setting)
    command = " ".join(["python -m benchmarks", *sys.argv[1:]])
    measured = Measured(number=arguments.number, name=name, command=command, threads=setting.threads, rows=rows)
    print_table(measured)
    print(write(measured, arguments.out or (QUICK_RESULTS if setting.quick else RESULTS)))
    return 0 if all(row.holds is not False for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
