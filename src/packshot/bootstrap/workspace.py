"""A workspace: its settings, records and blobs, and what is made of them."""

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

from packshot.bootstrap.handlers import group_handler, job_handlers
from packshot.bootstrap.models import Models
from packshot.domain.errors import PackshotError, WorkspaceMissing, WorkspaceUnusable
from packshot.domain.jobs import JobKind
from packshot.ports import Blobs, Executor, Fetcher, Poster
from packshot.services.jobs import GroupHandler, Handler
from packshot.services.limits import Limits
from packshot.settings import Settings, parse_networks

if TYPE_CHECKING:
    from packshot.domain.credentials import Credentials
    from packshot.imaging.recipe import Inscribe
    from packshot.storage.records import SqlRecords

DATABASE = "packshot.db"
SECRET_KEY = "secret.key"
COURIER_PAUSE_S = 1.0
_WORKER = (sys.executable, "-m", "packshot", "worker")
_log = logging.getLogger("packshot.webhooks")


@dataclass(frozen=True)
class Workspace(Models):
    """Everything a command needs, opened from one folder; close it after use. Models load on first use."""

    settings: Settings
    records: "SqlRecords"
    blobs: Blobs

    def close(self) -> None:
        """Let go of the database."""
        self.records.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    @property
    def lease(self) -> timedelta:
        """How long a silent worker keeps a job."""
        return timedelta(seconds=self.settings.lease_s)

    @property
    def limits(self) -> Limits:
        """What a namespace without a quota of its own may do."""
        return Limits(
            requests_per_minute=self.settings.requests_per_minute, max_unfinished_jobs=self.settings.max_unfinished_jobs
        )

    def check_room(self, namespace: str) -> None:
        """Check that ``namespace`` may have one more job, in the transaction that adds it. Raises QuotaExceeded."""
        from packshot.services.limits import check_room, limits_of

        check_room(self.records, namespace, limits_of(self.records, namespace, self.limits))

    @cached_property
    def inscribe(self) -> "Inscribe":
        """Puts the recipe into a picture, and signed credentials where a key is configured.

        Raises CredentialsUnusable where the key or its certificates are of no use.
        """
        from packshot.credentials import inscriber

        return inscriber(self.settings.c2pa_key, self.settings.c2pa_certificates)

    def read_credentials(self, data: bytes) -> "Credentials | None":
        """The signed statement in a picture; raises CredentialsUnusable where the trusted roots cannot be read."""
        from packshot.credentials import read_anchors, read_credentials

        trusted = self.settings.c2pa_trust
        return read_credentials(data, read_anchors(trusted) if trusted else "")

    @cached_property
    def executor(self) -> Executor:
        """Starts workers beside this process."""
        from packshot.execution.local import LocalProcesses

        return LocalProcesses(_WORKER, self.home / "logs", self._worker_env)

    def workers(self, num_workers: int) -> AbstractContextManager[object]:
        """So many workers beside this process, which end with it or with the context, whatever comes first."""
        from packshot.execution.pool import WorkerPool

        command = [*_WORKER, "--wait", "--parent", str(os.getpid())]
        return WorkerPool(command, num_workers, self.home / "logs" / "workers.log", self._worker_env)

    @property
    def _worker_env(self) -> dict[str, str]:
        return {"PACKSHOT_HOME": str(self.home), "PACKSHOT_DATABASE": self.settings.database}

    @cached_property
    def secret_key(self) -> bytes:
        """32 random bytes of this workspace, from which the secrets of webhooks come; made where they are missing.

        Raises:
            WorkspaceUnusable: the file cannot be read or made, or was cut short.
        """
        from packshot.storage.secret_key import read_secret_key

        return read_secret_key(self.home / SECRET_KEY)

    @cached_property
    def poster(self) -> Poster:
        """Sends messages to webhooks."""
        from packshot.outbound import PublicPoster

        return PublicPoster(parse_networks(self.settings.webhook_networks))

    @cached_property
    def fetcher(self) -> Fetcher:
        """Fetches photos by their URLs."""
        from packshot.outbound import PublicFetcher

        return PublicFetcher(parse_networks(self.settings.webhook_networks))

    @contextmanager
    def courier(self) -> "Iterator[None]":
        """Send the messages of webhooks beside this process's work while the context lasts."""
        from packshot.services.webhooks import deliver_due

        ended = threading.Event()

        def send() -> None:
            while not ended.wait(COURIER_PAUSE_S):
                try:
                    for each in deliver_due(self.records, self.poster, self.secret_key):
                        _log.info(
                            "webhook", extra={"message_id": each.id, "status": each.status, "error": each.last_error}
                        )
                except PackshotError:  # the database is away for a moment: what is due stays so
                    _log.exception("no webhook could be sent")

        thread = threading.Thread(target=send, name="courier", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    @cached_property
    def handlers(self) -> dict[JobKind, Handler]:
        """What a worker does for each kind of job."""
        return job_handlers(self)

    @cached_property
    def train_group(self) -> GroupHandler:
        """What a worker does for several trainings that go together."""
        return group_handler(self)

    def tidy(self) -> None:
        """Remove what ended jobs kept to go on from."""
        from packshot.services.training import sweep_checkpoints

        sweep_checkpoints(self.records, self.runs)

    def engine_noted(self) -> AbstractContextManager[None]:
        """Add the engine's numbers to the workspace's while the context lasts, for the servers' metrics."""
        from packshot.services.engine_work import engine_noted

        return engine_noted(self.records, self.engine_tally.take)

    @property
    def runs(self) -> Path:
        """Where trainings keep what they go on from."""
        return self.home / "runs"


def create_workspace(settings: Settings) -> Workspace:
    """Make the workspace folder with an empty database, or bring an existing one up to date.

    Raises:
        WorkspaceUnusable: the folder cannot be made, or its database cannot be used.
        InvalidInput: ``PACKSHOT_DATABASE`` is no URL of a database that records can be kept in.
    """
    from packshot.storage.records import SqlRecords

    home = settings.home.absolute()
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkspaceUnusable(
            f"cannot make {home} ({error.strerror}); set PACKSHOT_HOME to another folder"
        ) from error
    return _workspace(settings, SqlRecords.create(settings.database or home / DATABASE))


def open_workspace(settings: Settings) -> Workspace:
    """Open the workspace folder.

    Raises:
        WorkspaceMissing: there is none; the message says how to make one.
        WorkspaceUnusable: its database cannot be used.
        InvalidInput: as ``create_workspace``.
    """
    from packshot.storage.records import SqlRecords

    home = settings.home.absolute()
    if not (settings.database or (home / DATABASE).is_file()):
        raise WorkspaceMissing(f"{home} holds no workspace; make one with: packshot init (or set PACKSHOT_HOME)")
    return _workspace(settings, SqlRecords.open(settings.database or home / DATABASE))


def _workspace(settings: Settings, records: "SqlRecords") -> Workspace:
    from packshot.storage.blobs import ObstoreBlobs

    return Workspace(settings=settings, records=records, blobs=ObstoreBlobs.folder(settings.home.absolute() / "blobs"))
