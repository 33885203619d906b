"""What work cost: one entry per attempt at a job, and sums of them per category. Does not know money but as a rate."""

from dataclasses import dataclass
from datetime import datetime

from packshot.domain.jobs import JobKind, JobStatus


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What one attempt at a job took and gave, also one that failed or was interrupted.

    ``status`` is how it left its job; ``num_steps`` counts steps of training, ``fees`` are what
    other people's image APIs charged. No ``job_id`` = made at once, without the
    queue; no ``category_id`` = pictures of a bare base, or
    a batch of several categories.
    """

    id: str
    namespace: str
    category_id: str | None
    job_id: str | None
    kind: JobKind
    status: JobStatus
    num_images: int
    num_steps: int
    seconds: float
    fees: float = 0.0
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Sums over usage; ``cost`` is compute time at the operator's price per hour, and the ``fees`` of others.

    ``training_seconds`` are those of ``seconds`` that trainings took.
    """

    num_images: int
    num_steps: int
    training_seconds: float
    seconds: float
    fees: float
    cost: float


def price_of(seconds: float, fees: float, price_per_hour: float) -> float:
    """What compute time and fees cost together."""
    return seconds / 3600 * price_per_hour + fees
