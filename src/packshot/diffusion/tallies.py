"""Counts what an engine does, for whoever asks from another thread. Does not know who that is."""

import threading
from dataclasses import replace

from packshot.domain.engine_work import FILL_BOUNDS, STEP_BOUNDS_S, EngineTotals


class EngineTally:
    """What one process's engine has done since that was last taken."""

    def __init__(self) -> None:
        self._totals = EngineTotals()
        self._lock = threading.Lock()

    def take(self) -> EngineTotals:
        """What was done since the last call."""
        with self._lock:
            taken, self._totals = self._totals, EngineTotals()
        return taken

    def step(self, seconds: float, fill: float) -> None:
        """Count a pass through the denoiser that took ``seconds``, with this share of the pictures that go together."""
        with self._lock:
            self._totals = replace(
                self._totals,
                step_seconds=self._totals.step_seconds.with_value(seconds, STEP_BOUNDS_S),
                batch_fill=self._totals.batch_fill.with_value(fill, FILL_BOUNDS),
            )

    def hit(self) -> None:
        """Count a picture whose adapter was resident."""
        with self._lock:
            self._totals = replace(self._totals, slot_hits=self._totals.slot_hits + 1)

    def miss(self) -> None:
        """Count a picture whose adapter was loaded for it."""
        with self._lock:
            self._totals = replace(self._totals, slot_misses=self._totals.slot_misses + 1)
