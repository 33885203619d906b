"""A server and a worker with stubs in place of the models, each in a process of its own; see ``platform_overhead``.

    python -m benchmarks.platform_server prepare|serve|work FOLDER

``serve`` prints its port, ``work`` prints once per second how many jobs it has done and the seconds that took.
"""

import os
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from api import IDENTIFIER, Platform  # noqa: E402
from fake_models import ColourJudge, FakeBaseModels, FakeGenerator, FakeTrainer  # noqa: E402
from fastapi.testclient import TestClient  # noqa: E402

from packshot.bootstrap import Workspace, create_workspace  # noqa: E402
from packshot.services.catalog import add_category  # noqa: E402
from packshot.services.jobs import work_on_one  # noqa: E402
from packshot.settings import Settings  # noqa: E402
from packshot.web.app import create_app  # noqa: E402
from packshot.web.server import listen, serve  # noqa: E402

CATEGORIES = 200


def opened(folder: Path) -> Workspace:
    """The workspace with the stubs."""
    space = create_workspace(
        Settings(home=folder / "workspace", requests_per_minute=1_000_000, max_unfinished_jobs=10_000_000)
    )
    vars(space).update(bases=FakeBaseModels(), trainer=FakeTrainer(), generator=FakeGenerator(), judge=ColourJudge())
    return space


def prepare(folder: Path) -> None:
    """A catalog with one category that serves; prints a key for it."""
    with opened(folder) as space, TestClient(create_app(space)) as client:
        platform = Platform(folder, space, client)
        platform.serving()
        for number in range(CATEGORIES):
            add_category(space.records, path=f"kind/n{number}", class_noun="thing", namespace="acme")
        print(platform.key("generate")["Authorization"], IDENTIFIER, sep="\n", flush=True)


def answer(folder: Path) -> None:
    """Serve until the process is killed."""
    with opened(folder) as space, listen("127.0.0.1", 0, dev=False) as listening:
        print(listening.getsockname()[1], flush=True)
        serve(create_app(space), listening)


def work(folder: Path) -> None:
    """Do jobs until the parent is gone."""
    done, seconds = 0, 0.0
    parent, told = os.getppid(), time.monotonic()
    with opened(folder) as space:
        while os.getppid() == parent:
            started = time.monotonic()
            if work_on_one(space.records, space.handlers):
                done, seconds = done + 1, seconds + time.monotonic() - started
            else:
                time.sleep(0.02)
            if time.monotonic() - told > 1:
                told = time.monotonic()
                print(done, seconds, flush=True)


if __name__ == "__main__":
    assert threading.current_thread() is threading.main_thread()
    {"prepare": prepare, "serve": answer, "work": work}[sys.argv[1]](Path(sys.argv[2]))
