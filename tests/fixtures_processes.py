"""Two processes that share trainings: the test's own, which leads, and one that follows it."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from fixtures_pipelines import Studio, never, silent
from safetensors.torch import load

from packshot.diffusion.launched import Launched
from packshot.diffusion.trainer import DiffusersTrainer
from packshot.ports import TrainedWeights, TrainingTask

FOLLOWER = """
import sys
from pathlib import Path
import torch
from packshot.diffusion import followers, loop, optimizers
from packshot.diffusion.bases import DiffusersBaseModels
from packshot.diffusion.followers import follow
from packshot.diffusion.launched import Launched
from packshot.digests import FileDigests

torch.set_num_threads(1)
optimizers.EPSILON = float(sys.argv[1])
whole = loop.squared_errors
def fails_for_some_seeds(parts):
    if parts[0][0].config.seed == 13:
        raise MemoryError("no room")
    return [errors * (torch.inf if parts[0][0].config.seed == 14 else 1) for errors in whole(parts)]
loop.squared_errors = fails_for_some_seeds
attach = followers.attached_loop
def cannot_attach(task, *rest):
    if task.config.seed == 15:
        raise MemoryError("no room for it")
    return attach(task, *rest)
followers.attached_loop = cannot_attach
follow(DiffusersBaseModels(embedded=Path, digests=FileDigests(), device="cpu"), Launched("auto"))
"""


# Adam's steps are signs of gradients where these are small, also of those that are nothing but rounding; not with this.
EPSILON = 1e-3


class Pair:
    """This process, which leads, and another."""

    def __init__(self, other: "subprocess.Popen[str]") -> None:
        self.other = other
        self.processes = Launched("auto")

    def train(self, studio: Studio, of: TrainingTask, **options: Any) -> TrainedWeights:
        trainer = DiffusersTrainer(studio.bases, studio.generator, processes=self.processes)
        return trainer.train(of, **{"report": silent, "stop": never, **options})


@contextmanager
def two_processes() -> Iterator[Pair]:
    from accelerate.state import PartialState

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    own = {**address, "RANK": "0", "LOCAL_RANK": "0", "OMP_NUM_THREADS": "1"}
    with pytest.MonkeyPatch.context() as patch:
        other = subprocess.Popen(
            [sys.executable, "-c", FOLLOWER, str(EPSILON)],
            env={**os.environ, **own, "RANK": "1", "LOCAL_RANK": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            for name, value in own.items():
                patch.setenv(name, value)
            pair = Pair(other)
            with pair.processes.led_from_here():
                yield pair
            other.communicate(timeout=60)
        finally:
            other.kill()
            other.communicate()
            PartialState._reset_state()


def of_folder(studio: Studio) -> Studio:
    """The same base by the path of its folder, which another process finds too."""
    by_path = Studio(studio.folder)
    by_path.base = by_path.bases.describe(str(studio.folder))
    return by_path


def tensors_of(trained: TrainedWeights) -> dict[str, torch.Tensor]:
    return load(trained.files["weights.safetensors"])


def check_close(shared: TrainedWeights, alone: TrainedWeights) -> None:
    expected = tensors_of(alone)
    assert tensors_of(shared).keys() == expected.keys()
    for name, tensor in tensors_of(shared).items():
        assert (tensor - expected[name]).abs().max() <= 1e-4 * expected[name].abs().max() + 1e-6, name
    assert len(shared.metrics) == len(alone.metrics)
    for mine, theirs in zip(shared.metrics, alone.metrics, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4)
