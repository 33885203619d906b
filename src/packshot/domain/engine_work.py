"""What the engines of workers have done, in numbers that only grow: steps, how full batches were, hits of slots."""

from bisect import bisect_left
from dataclasses import dataclass, field
from datetime import datetime

STEP_BOUNDS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
FILL_BOUNDS = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """How many values were at most each bound and above the one before, then how many were above all; and their sum."""

    counts: tuple[int, ...]
    total: float = 0.0

    def __add__(self, other: "Distribution") -> "Distribution":
        """Both together; they have the same bounds."""
        counts = tuple(mine + its for mine, its in zip(self.counts, other.counts, strict=True))
        return Distribution(counts=counts, total=self.total + other.total)

    def with_value(self, value: float, bounds: tuple[float, ...]) -> "Distribution":
        """One value more."""
        place = bisect_left(bounds, value)
        counts = (*self.counts[:place], self.counts[place] + 1, *self.counts[place + 1 :])
        return Distribution(counts=counts, total=self.total + value)


def nothing_yet(bounds: tuple[float, ...]) -> Distribution:
    """No value."""
    return Distribution(counts=(0,) * (len(bounds) + 1))


@dataclass(frozen=True, kw_only=True)
class EngineTotals:
    """Sums over passes and pictures.

    Attributes:
        step_seconds: Time of each pass through the denoiser with what schedulers make of it, by STEP_BOUNDS_S.
        batch_fill: Pictures in each pass over those that the engine takes, by FILL_BOUNDS; a part of a composed picture
            counts as one.
        slot_hits: Pictures (or parts) whose adapter was resident.
        slot_misses: Those whose adapter was loaded for them.
    """

    step_seconds: Distribution = field(default_factory=lambda: nothing_yet(STEP_BOUNDS_S))
    batch_fill: Distribution = field(default_factory=lambda: nothing_yet(FILL_BOUNDS))
    slot_hits: int = 0
    slot_misses: int = 0

    def __add__(self, other: "EngineTotals") -> "EngineTotals":
        """Both together."""
        return EngineTotals(
            step_seconds=self.step_seconds + other.step_seconds,
            batch_fill=self.batch_fill + other.batch_fill,
            slot_hits=self.slot_hits + other.slot_hits,
            slot_misses=self.slot_misses + other.slot_misses,
        )


@dataclass(frozen=True, kw_only=True)
class EngineWork:
    """What all engines of a workspace have done since ``created_at``; there is one."""

    id: str = "engines"
    totals: EngineTotals
    created_at: datetime
