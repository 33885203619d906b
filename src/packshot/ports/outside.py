"""Other processes, and other people's servers."""

from collections.abc import Mapping
from typing import Protocol

from packshot.domain.jobs import JobKind


class Executor(Protocol):
    """Runs queued jobs somewhere other than in this call."""

    def start(self, kind: JobKind, job_id: str) -> str:
        """See to it that a worker takes the job; returns a name for where it runs."""
        ...


class Poster(Protocol):
    """Sends messages to servers of other people."""

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """POST JSON and return the status of the reply; follows no redirect.

        Raises AddressRefused where the address must not be connected to, or does not answer.
        """
        ...


class Fetcher(Protocol):
    """Fetches files from servers of other people."""

    def fetch(self, url: str, max_bytes: int) -> bytes:
        """What ``url`` gives, and of something larger its first ``max_bytes``; follows a few redirects.

        Raises AddressRefused where it, or what it redirects to, is no http or https URL, leads to an address that must
        not be connected to, or gives nothing in time.
        """
        ...
