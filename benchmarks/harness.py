"""What every benchmark shares: interleaved rounds, rows that know whether their aim holds, the JSON file. Measures nothing."""

import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import torch
from rich.console import Console
from rich.table import Table

from packshot.embedded.bundle import bundled_base_version


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How thoroughly to measure: 5 rounds, or 2 with ``quick``."""

    quick: bool
    threads: int

    @property
    def rounds(self) -> int:
        """Rounds of every contestant."""
        return 2 if self.quick else 5


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure. ``ratio`` is how many times better than the peer; the aim is on it, or on ``value`` without a peer.

    ``value`` and ``peer_value`` are medians where they were measured in rounds, ``least`` and ``peer_least`` the minima.
    """

    label: str
    value: float
    unit: str
    peer_value: float | None = None
    ratio: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    least: float | None = None
    peer_least: float | None = None

    @property
    def holds(self) -> bool | None:
        """Whether the aim is reached; None without an aim."""
        measured = self.value if self.ratio is None else self.ratio
        if self.at_most is not None:
            return measured <= self.at_most
        return None if self.at_least is None else measured >= self.at_least

    @property
    def aim(self) -> str | None:
        """The bound in words; None without one."""
        if self.at_most is not None:
            return f"<= {self.at_most:g}"
        return None if self.at_least is None else f">= {self.at_least:g}"

    def to_json(self) -> dict[str, object]:
        """The row as the result file has it."""
        numbers = {
            "value": self.value,
            "peer_value": self.peer_value,
            "ratio": self.ratio,
            "min": self.least,
            "peer_min": self.peer_least,
        }
        return {
            "label": self.label,
            "unit": self.unit,
            **{name: None if number is None else float(f"{number:.4g}") for name, number in numbers.items()},
            "aim": self.aim,
            "holds": self.holds,
        }


@dataclass(frozen=True, kw_only=True)
class Measured:
    """All that one run of a benchmark found."""

    number: int
    name: str
    command: str
    threads: int
    rows: Sequence[Row]
    date: str = field(default_factory=lambda: datetime.now(UTC).date().isoformat())


def interleaved(
    contestants: Mapping[str, Callable[[], float]], rounds: int, *, warm_up: bool = True
) -> dict[str, list[float]]:
    """Run A B A B …; each call returns its own measurement. One more round at the start warms up and is dropped."""
    found: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + warm_up):
        for name, measure in contestants.items():
            measurement = measure()
            if number >= warm_up:
                found[name].append(measurement)
    return found


def versus(
    label: str, ours: Sequence[float], peer: Sequence[float], unit: str, *, at_least: float | None = None
) -> Row:
    """A row of two lists of times, less being better, by their medians."""
    mine, theirs = median(ours), median(peer)
    return Row(
        label=label,
        value=mine,
        unit=unit,
        peer_value=theirs,
        ratio=theirs / mine,
        at_least=at_least,
        least=min(ours),
        peer_least=min(peer),
    )


def machine(threads: int) -> dict[str, object]:
    """What it was measured on."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return {
        "processor": model or platform.processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "isa": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def write(measured: Measured, folder: Path) -> Path:
    """Write the result file; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{measured.number:02d}-{measured.name.replace('_', '-')}.json"
    document = {
        "name": measured.name,
        "command": measured.command,
        "date": measured.date,
        "machine": machine(measured.threads),
        "bundled_base": bundled_base_version(),
        "rows": [row.to_json() for row in measured.rows],
    }
    path.write_text(json.dumps(document, indent=1) + "\n")
    return path


def print_table(measured: Measured) -> None:
    """The rows for a person."""
    table = Table(title=f"{measured.number} {measured.name}")
    for heading in ("figure", "ours", "peer", "ratio", "aim", "holds"):
        table.add_column(heading)
    for row in measured.rows:
        told = row.to_json()
        peer, ratio = ("" if told[name] is None else f"{told[name]:g}" for name in ("peer_value", "ratio"))
        holds = {True: "yes", False: "no", None: ""}[row.holds]
        table.add_row(row.label, f"{told['value']:g} {row.unit}", peer, ratio, str(told["aim"] or ""), holds)
    Console().print(table)
