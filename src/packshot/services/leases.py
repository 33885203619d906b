"""What a worker holds while it works on a job: the lease that a heartbeat renews. Knows no kind of work, and not how a job ends."""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from packshot.domain.errors import PackshotError, StaleAttempt
from packshot.domain.jobs import Job, heartbeat
from packshot.ports import Progress, Records
from packshot.services.catalog import now


@dataclass
class Lease:
    """What the heartbeat thread and the handler share."""

    progress: float = 0.0
    message: str = ""
    num_training_steps: int = 0
    lost: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    def note(self, progress: Progress) -> None:
        """Take what the handler tells, for the next heartbeat."""
        self.num_training_steps += progress.loss is not None
        self.progress = progress.step / max(progress.num_steps, 1)
        self.message = f"{progress.phase} {progress.step}/{progress.num_steps}"


@contextmanager
def kept_lease(records: Records, job: Job, lease: timedelta) -> Generator[Lease, None, None]:
    """Renew the lease of a claimed ``job`` until the block ends; ``lost`` is set once it is another attempt's."""
    state = Lease()

    def beat() -> None:
        held_until = job.lease_expires_at or now()
        while not state.ended.wait(lease.total_seconds() / 4):
            try:
                with records.transaction(fence=(job.id, job.attempt)):
                    renewed = heartbeat(records.get(Job, job.id), now(), lease, state.progress, state.message)
                    records.replace(renewed)
                held_until = renewed.lease_expires_at or held_until
            except PackshotError as error:
                # A database that is busy or away for a moment is asked again at the next beat.
                if isinstance(error, StaleAttempt) or now() >= held_until:
                    state.lost.set()
                    return

    thread = threading.Thread(target=beat, name=f"lease of {job.id}", daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.ended.set()
        thread.join()
