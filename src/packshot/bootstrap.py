"""The composition root: the only place where implementations are chosen. Loads torch only when a model is asked for."""

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

from packshot import __version__
from packshot.domain.errors import PackshotError, WorkspaceMissing, WorkspaceUnusable
from packshot.domain.jobs import JobKind
from packshot.ports import (
    BaseModels,
    Blobs,
    Compressor,
    Executor,
    Exporter,
    Fetcher,
    ForeignGenerator,
    Generator,
    Importer,
    Judge,
    Poster,
    Trainer,
)
from packshot.services.jobs import GroupHandler, Handler
from packshot.services.limits import Limits
from packshot.settings import Settings, parse_networks

if TYPE_CHECKING:
    from packshot.diffusion.bases import DiffusersBaseModels
    from packshot.diffusion.engine import DiffusersEngine
    from packshot.diffusion.processes import Processes
    from packshot.diffusion.tallies import EngineTally
    from packshot.domain.credentials import Credentials
    from packshot.imaging.recipe import Inscribe
    from packshot.storage.records import SqlRecords

DATABASE = "packshot.db"
PROVIDERS = "providers.toml"
SECRET_KEY = "secret.key"
COURIER_PAUSE_S = 1.0
_WORKER = (sys.executable, "-m", "packshot", "worker")


_log = logging.getLogger("packshot.webhooks")


@dataclass(frozen=True)
class Workspace:
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
    def home(self) -> Path:
        """The workspace folder, absolute."""
        return self.settings.home.absolute()

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
    def bases(self) -> BaseModels:
        """Finds and examines base models."""
        return self._diffusers_bases

    @cached_property
    def trainer(self) -> Trainer:
        """Fine-tunes bases."""
        from packshot.diffusion.trainer import DiffusersTrainer

        return DiffusersTrainer(
            self._diffusers_bases,
            self._diffusers_generator,
            group_samples=self.settings.group_samples,
            processes=self.processes,
        )

    @cached_property
    def processes(self) -> "Processes":
        """Those that a launcher has started with this one, which share a training; they meet on first use."""
        if launched()[1] > 1:
            from packshot.diffusion.launched import Launched

            return Launched(self.settings.device)
        from packshot.diffusion.processes import Processes

        return Processes()

    @cached_property
    def generator(self) -> Generator:
        """Makes pictures."""
        return self._diffusers_generator

    @cached_property
    def foreign_generator(self) -> ForeignGenerator:
        """Has pictures made by other people's image APIs."""
        from packshot.providers.openai_images import OpenAiImages

        return OpenAiImages(self.home / PROVIDERS)

    @cached_property
    def exporter(self) -> Exporter:
        """Writes fine-tunes for other tools."""
        from packshot.diffusion.exporter import DiffusersExporter

        return DiffusersExporter(self._diffusers_bases)

    @cached_property
    def compressor(self) -> Compressor:
        """Makes full fine-tunes small."""
        from packshot.diffusion.compressor import DiffusersCompressor

        return DiffusersCompressor(self._diffusers_bases)

    @cached_property
    def importer(self) -> Importer:
        """Reads fine-tunes of other tools."""
        from packshot.diffusion.importer import DiffusersImporter

        return DiffusersImporter(self._diffusers_bases)

    @cached_property
    def judge(self) -> Judge:
        """Looks at pictures."""
        from packshot.embedded.bundle import CLIP, EMBEDDER, bundled_judge
        from packshot.judging.transformers_judge import TransformersJudge

        chosen = {EMBEDDER: self.settings.judge_embedder, CLIP: self.settings.judge_clip}
        embedder, clip = (bundled_judge(part) if source == "embedded" else source for part, source in chosen.items())
        return TransformersJudge(embedder, clip, device=self._device)

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
        from packshot.services.batch_jobs import run_batch
        from packshot.services.evaluation_jobs import run_evaluation
        from packshot.services.foreign import run_foreign_generation
        from packshot.services.generation import run_generation
        from packshot.services.training import run_training

        inscribe = self.inscribe

        def train(job, report, stop) -> None:  # type: ignore[no-untyped-def]
            run_training(
                job,
                self.records,
                self.blobs,
                self.trainer,
                code_revision=code_revision(),
                workdir=self._runs,
                cachedir=self.home / "cache",
                report=report,
                stop=stop,
                judge=lambda: self.judge,
            )

        def generate(job, report, stop) -> None:  # type: ignore[no-untyped-def]
            run_generation(job, self.records, self.blobs, self.generator, inscribe=inscribe, report=report, stop=stop)

        def have_generated(job, report, stop) -> None:  # type: ignore[no-untyped-def]
            run_foreign_generation(
                job, self.records, self.blobs, self.foreign_generator, inscribe=inscribe, report=report, stop=stop
            )

        def make_batch(job, report, stop) -> None:  # type: ignore[no-untyped-def]
            run_batch(job, self.records, self.blobs, self.generator, inscribe=inscribe, report=report, stop=stop)

        def evaluate(job, report, stop) -> None:  # type: ignore[no-untyped-def]
            run_evaluation(job, self.records, self.blobs, self.generator, self.judge, report=report, stop=stop)

        return {
            JobKind.TRAINING: train,
            JobKind.GENERATION: generate,
            JobKind.FOREIGN_GENERATION: have_generated,
            JobKind.BATCH: make_batch,
            JobKind.EVALUATION: evaluate,
        }

    @cached_property
    def train_group(self) -> GroupHandler:
        """What a worker does for several trainings that go together."""
        from packshot.services.training_groups import run_trainings

        def train(held) -> None:  # type: ignore[no-untyped-def]
            run_trainings(
                held,
                self.records,
                self.blobs,
                self.trainer,
                code_revision=code_revision(),
                workdir=self._runs,
                cachedir=self.home / "cache",
                judge=lambda: self.judge,
            )

        return train

    def tidy(self) -> None:
        """Remove what ended jobs kept to go on from."""
        from packshot.services.training import sweep_checkpoints

        sweep_checkpoints(self.records, self._runs)

    @property
    def _runs(self) -> Path:
        return self.home / "runs"

    @cached_property
    def _device(self) -> str:
        import torch

        chosen = self.settings.device
        return chosen if chosen != "auto" else "cuda" if torch.cuda.is_available() else "cpu"

    @cached_property
    def _diffusers_bases(self) -> "DiffusersBaseModels":
        return _diffusers_bases(self.settings)

    @cached_property
    def _diffusers_generator(self):  # type: ignore[no-untyped-def]
        from packshot.diffusion.generator import DiffusersGenerator

        return DiffusersGenerator(self._diffusers_bases, self.engine)

    @cached_property
    def engine(self) -> "DiffusersEngine":
        """Mixes the pictures of all callers in one batch."""
        from packshot.diffusion.engine import DiffusersEngine
        from packshot.diffusion.resident import EngineLimits

        settings = self.settings
        limits = EngineLimits(
            max_batch=settings.max_batch,
            max_queue=settings.max_queue,
            adapter_ranks=settings.adapter_ranks,
            adapter_cache_mib=settings.adapter_cache_mib,
            prompt_cache_mib=settings.prompt_cache_mib,
            max_replicas=settings.max_replicas,
        )
        return DiffusersEngine(self._diffusers_bases, limits, self.engine_tally)

    @cached_property
    def engine_tally(self) -> "EngineTally":
        """Counts what the engine of this process does."""
        from packshot.diffusion.tallies import EngineTally

        return EngineTally()

    def engine_noted(self) -> AbstractContextManager[None]:
        """Add the engine's numbers to the workspace's while the context lasts, for the servers' metrics."""
        from packshot.services.engine_work import engine_noted

        return engine_noted(self.records, self.engine_tally.take)


def launched() -> tuple[int, int]:
    """The number of this process among those that accelerate's launcher or torchrun started, and how many they are."""
    if "RANK" not in os.environ:
        return 0, 1
    return int(os.environ["RANK"]), int(os.environ.get("WORLD_SIZE", "1"))


def follow(settings: Settings) -> None:
    """Share the trainings of the first of the launched processes, until it has no more.

    Raises:
        ProcessLost: another process has ended.
    """
    from packshot.diffusion.followers import follow
    from packshot.diffusion.launched import Launched

    processes = Launched(settings.device)
    for each in (signal.SIGINT, signal.SIGTERM):  # the leader gets them too, and says when to end
        signal.signal(each, signal.SIG_IGN)
    follow(_diffusers_bases(settings), processes)


def _diffusers_bases(settings: Settings) -> "DiffusersBaseModels":
    from packshot.diffusion.bases import DiffusersBaseModels
    from packshot.digests import FileDigests
    from packshot.embedded.bundle import bundled_base

    digests = FileDigests(settings.home.absolute() / "cache" / "digests.json")
    return DiffusersBaseModels(embedded=bundled_base, digests=digests, device=settings.device)


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


@cache
def code_revision() -> str:
    """The version, with the commit where this is a checkout: ``0.1.0+git.1a2b3c4`` (``.dirty`` when changed)."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return __version__
    try:
        described = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty=.dirty", "--abbrev=12", "--exclude=*"],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:  # no git on this machine
        return __version__
    return f"{__version__}+git.{described.stdout.strip()}" if described.returncode == 0 else __version__
