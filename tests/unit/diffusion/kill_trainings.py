"""A process for ``test_kill``: trainings that are killed by signal 9, each in a child of its own.

    python kill_trainings.py BASE_FOLDER CACHE_FOLDER RUNS_FOLDER < JSON list of [run, method, at step, at sync]

A run is killed when it reports step ``at step``, or at the ``at sync``-th fsync of its checkpoints.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch
from fixtures_pipelines import Studio, never, task

from packshot.domain.training import Method
from packshot.ports import Progress

BASE, CACHE, RUNS = (Path(argument) for argument in sys.argv[1:4])


def kill_now() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def train_and_die(studio: Studio, run: str, method: str, at_step: int | None, at_sync: int | None) -> None:
    synced = 0
    real_sync = os.fsync

    def sync(handle: int) -> None:
        nonlocal synced
        synced += 1
        if synced == at_sync:
            kill_now()
        real_sync(handle)

    def report(progress: Progress) -> None:
        if progress.phase == "training" and progress.step == at_step:
            kill_now()
        if progress.phase == "training" and progress.step == 1:
            os.fsync = sync

    studio.trainer.train(task(studio, RUNS / run, method=Method(method), cachedir=CACHE), report=report, stop=never)


def main() -> None:
    torch.set_num_threads(1)
    studio = Studio(BASE)
    # What a first training loads and compiles is then there for all children.
    studio.trainer.train(task(studio, RUNS / "warm", cachedir=CACHE), report=lambda _: None, stop=never)
    for plan in json.load(sys.stdin):
        child = os.fork()
        if child == 0:
            train_and_die(studio, *plan)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(plan[0], "killed" if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL else "lived")


if __name__ == "__main__":
    main()
