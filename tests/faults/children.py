"""Trainings in child processes that die by signal 9: at a step, at a moment, or at an operation on files.

Does not know what must hold afterwards. Children are forked, so that what a first training loads and compiles is there
for all of them; the process that does so must have one thread.
"""

import hashlib
import json
import os
import signal
import sys
import threading
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import torch
from fixtures_pipelines import QUICK, Studio, never, save_pipeline, task

from faults.operations import Operations
from packshot.domain.training import TrainingConfig
from packshot.domain.training_choices import Method, OptimizerKind
from packshot.ports import Progress, TrainedWeights, TrainingTask

EVERY = 4  # steps between two checkpoints; the last two steps have none behind them
_BASIC = replace(QUICK, steps=2 * EVERY + 2, checkpoint_every_steps=EVERY)
CONFIGS: dict[str, TrainingConfig] = {
    **{str(method): replace(_BASIC, method=method) for method in Method},
    "lora with DoRA and moving average": replace(_BASIC, method=Method.LORA, use_dora=True, ema_decay=0.9),
    "pivotal with Prodigy": replace(
        _BASIC, optimizer=OptimizerKind.PRODIGY, learning_rate=1.0, token_learning_rate=1.0
    ),
    "pivotal with text encoder and accumulation": replace(
        _BASIC, gradient_accumulation_steps=2, train_text_encoder=True
    ),
}


@dataclass(frozen=True, kw_only=True)
class Life:
    """What became of one child: the steps it reported, the file operations it was about to make or made, whether it was
    killed, and otherwise the digest of its result.
    """

    steps: list[int]
    operations: list[str]
    killed: bool
    digest: str


class Nursery:
    """Starts children that train on one tiny pipeline of random weights."""

    def __init__(self, workdir: Path) -> None:
        torch.set_num_threads(1)
        self._workdir = workdir
        self._studio = Studio(save_pipeline(workdir / "base"))
        self._studio.trainer.train(self.task("warm", _BASIC), report=lambda _: None, stop=never)

    def task(self, run: str, config: TrainingConfig) -> TrainingTask:
        """The training ``run``, which goes on where its last child ended."""
        return task(self._studio, self._workdir / "runs" / run, config=config, cachedir=self._workdir / "cache")

    def life(
        self,
        of: TrainingTask,
        *,
        at_step: int | None = None,
        after_s: float | None = None,
        operations: Operations | None = None,
    ) -> Life:
        """Train in a child to the end, or until it dies: where it reports step ``at_step``, when ``after_s`` seconds have
        passed, or at one of its ``operations``.
        """
        reading, writing = os.pipe()
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            os.close(reading)
            _live(self._studio, of, writing, at_step, operations)
        os.close(writing)
        timer = threading.Timer(after_s or 0.0, os.kill, (child, signal.SIGKILL))
        if after_s is not None:
            timer.start()
        with os.fdopen(reading) as pipe:
            told = [json.loads(line) for line in pipe]
        timer.cancel()
        if after_s is not None:
            timer.join()
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        assert killed or status == 0, f"the training in {of.workdir} ended with status {status}"
        return Life(
            steps=[each for kind, each in told if kind == "step"],
            operations=[each for kind, each in told if kind == "operation"],
            killed=killed,
            digest="".join(each for kind, each in told if kind == "digest"),
        )


def _live(studio: Studio, of: TrainingTask, pipe: int, at_step: int | None, operations: Operations | None) -> NoReturn:
    def tell(kind: str, what: object) -> None:
        os.write(pipe, (json.dumps([kind, what]) + "\n").encode())

    def report(progress: Progress) -> None:
        if progress.phase != "training":
            return
        tell("step", progress.step)
        if progress.step == at_step:
            os.kill(os.getpid(), signal.SIGKILL)
        if operations:
            operations.at(progress.step)

    status = 1
    try:
        if operations:
            operations.install(lambda what: tell("operation", what))
        tell("digest", _digest(studio.trainer.train(of, report=report, stop=never)))
        status = 0
    except BaseException:  # noqa: BLE001 - a child must not go on as its parent
        traceback.print_exc()
    finally:
        os._exit(status)


def _digest(trained: TrainedWeights) -> str:
    """sha256 of weights and figures."""
    found = hashlib.sha256()
    for name, data in sorted(trained.files.items()):
        found.update(name.encode() + data)
    found.update(json.dumps([dict(row) for row in trained.metrics]).encode())
    return found.hexdigest()
