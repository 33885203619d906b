"""The API over a workspace on disk, with the fakes in place of the models, and a worker that a test calls."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from databases import new_database
from fake_models import ColourJudge, FakeBaseModels, FakeGenerator, FakeTrainer
from fastapi.testclient import TestClient
from photos import save_photo

from packshot.bootstrap import DATABASE, Workspace, create_workspace
from packshot.domain.models import FineTune
from packshot.services.access import create_key
from packshot.services.evaluation import evaluate
from packshot.services.jobs import work_on_one
from packshot.services.models import register_base
from packshot.settings import Settings
from packshot.web.app import create_app

IDENTIFIER = "acme_fuji_apple"
PROMPT = f"{IDENTIFIER} on grass"


@dataclass(frozen=True)
class Snapshot:
    """The database and the blobs of a platform, the keys to it, and which fine-tune serves."""

    database: sqlite3.Connection
    blobs: dict[Path, bytes]
    keys: dict[tuple[str, ...], str]
    fine_tune_id: str

    @classmethod
    def of(cls, platform: "Platform", fine_tune_id: str) -> "Snapshot":
        home = platform.space.home
        files = [path for path in (home / "blobs").rglob("*") if path.is_file()]
        kept = sqlite3.connect(":memory:", check_same_thread=False)
        with closing(sqlite3.connect(home / DATABASE)) as database:
            database.backup(kept)
        return cls(
            database=kept,
            blobs={path.relative_to(home): path.read_bytes() for path in files},
            keys=dict(platform.keys),
            fine_tune_id=fine_tune_id,
        )

    def restored(self, platform: "Platform") -> str:
        """Put everything into a platform that holds nothing yet."""
        home = platform.space.home
        with closing(sqlite3.connect(home / DATABASE)) as database:
            self.database.backup(database)
        for name, data in self.blobs.items():
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            (home / name).write_bytes(data)
        platform.keys.update(self.keys)
        return self.fine_tune_id


SERVING: dict[str, Snapshot] = {}  # by settings


@dataclass
class Platform:
    """A server without a network, and ways through it that many tests begin with."""

    folder: Path
    space: Workspace
    client: TestClient
    keys: dict[tuple[str, ...], str] = field(default_factory=dict)

    def key(self, *scopes: str, team: str = "acme") -> dict[str, str]:
        """The header of a key with these scopes."""
        if (team, *scopes) not in self.keys:
            _, secret = create_key(self.space.records, name="test", namespace=team, scopes=scopes)
            self.keys[team, *scopes] = secret
        return {"Authorization": f"Bearer {self.keys[team, *scopes]}"}

    def call(self, method: str, path: str, *, status: int = 200, key: dict[str, str] | None = None, **options: Any):
        """The JSON of a reply; as acme's admin where no key is given."""
        headers = {**(self.key("admin") if key is None else key), **options.pop("headers", {})}
        reply = self.client.request(method, path, headers=headers, **options)
        assert reply.status_code == status, reply.text
        return reply.json()

    def photos(self, count: int = 8, start: int = 0) -> list[tuple[str, tuple[str, bytes]]]:
        """Good photos, as multipart files."""
        files: list[tuple[str, tuple[str, bytes]]] = []
        for seed in range(start, start + count):
            save_photo(self.folder / f"{seed:02}.png", seed)
            files.append(("files", (f"{seed:02}.png", (self.folder / f"{seed:02}.png").read_bytes())))
        return files

    def work(self) -> None:
        """Do every waiting job."""
        while work_on_one(self.space.records, self.space.handlers):
            pass

    def frozen(self) -> str:
        """A category with a frozen set, and a base to train it on; its identifier."""
        register_base(self.space.records, self.space.bases.describe("embedded"))
        self.call("POST", "/v1/categories", json={"path": "apple/fuji", "class_noun": "apple"}, status=201)
        self.call("POST", f"/v1/categories/{IDENTIFIER}/references", files=self.photos(), status=201)
        self.call("POST", f"/v1/categories/{IDENTIFIER}/references/freeze", status=201)
        return IDENTIFIER

    def train(self, **config: object) -> dict[str, Any]:
        """A training that has ended."""
        body = {"category": IDENTIFIER, "config": {"steps": 3, **config}}
        training = self.call("POST", "/v1/trainings", json=body, status=202)
        self.work()
        return self.call("GET", training["urls"]["get"])

    def serving(self) -> str:
        """The id of a fine-tune that serves; made once for all platforms of these settings, where nobody has a key yet."""
        told = repr(self.space.settings.model_copy(update={"home": Path()}))
        if self.keys or self.space.settings.database:
            return self._made_serving()
        if told not in SERVING:
            SERVING[told] = Snapshot.of(self, self._made_serving())
        return SERVING[told].restored(self)

    def _made_serving(self) -> str:
        self.frozen()
        fine_tune_id = self.train()["fine_tune_id"]
        body = {"fine_tune_id": fine_tune_id, "reason": "a test"}
        self.call("POST", f"/v1/categories/{IDENTIFIER}/alias/promote", json=body)
        return fine_tune_id

    def evaluated(self, fine_tune_id: str) -> str:
        """The id of an evaluation of that fine-tune."""
        space = self.space
        fine_tune = space.records.get(FineTune, fine_tune_id)
        return evaluate(space.records, space.blobs, space.generator, space.judge, fine_tune).id


def platform_in(
    folder: Path, *, dev: bool = False, client: tuple[str, int] = ("10.0.0.7", 1), **settings: Any
) -> Iterator[Platform]:
    home = folder / "workspace"
    if "database" not in settings:
        new_database(home / DATABASE)
    with create_workspace(Settings(home=home, **settings)) as space:
        vars(space).update(
            bases=FakeBaseModels(), trainer=FakeTrainer(), generator=FakeGenerator(), judge=ColourJudge()
        )
        with TestClient(create_app(space, dev=dev), client=client, raise_server_exceptions=False) as client_:
            yield Platform(folder, space, client_)


class worker:  # noqa: N801 a context manager
    """Somebody who makes the pictures that a route waits for."""

    def __init__(self, platform: Platform) -> None:
        self._platform, self._ended = platform, threading.Event()
        self._thread = threading.Thread(target=self._work)

    def _work(self) -> None:
        while not self._ended.wait(0.05):
            work_on_one(self._platform.space.records, self._platform.space.handlers)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
