"""Seconds of compute, shared by the jobs that are under way at the same time. Knows no kind of work."""

import threading
import time


class SharedClock:
    """At every moment the jobs under way share the time equally, so all shares together are the time that passed."""

    def __init__(self) -> None:
        self._at = time.monotonic()
        self._share = 0.0  # of a job that has been under way all along
        self._begun: dict[str, float] = {}
        self._left: dict[str, float] = {}
        self._lock = threading.Lock()

    def join(self, job_id: str) -> None:
        """The job is under way from now on; it may have been before."""
        with self._lock:
            self._settle()
            self._left.pop(job_id, None)
            self._begun[job_id] = self._share

    def leave(self, job_id: str) -> float:
        """The share of a job that ends now; when it is asked for again it is the same."""
        with self._lock:
            if job_id not in self._left:
                self._settle()
                self._left[job_id] = self._share - self._begun.pop(job_id)
            return self._left[job_id]

    def _settle(self) -> None:
        at = time.monotonic()
        if self._begun:
            self._share += (at - self._at) / len(self._begun)
        self._at = at
