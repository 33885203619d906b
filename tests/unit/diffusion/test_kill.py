"""kill -9 in the middle of a training, in real processes: the resumed run's weights equal an uninterrupted run's."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures_pipelines import Studio, never, task, train

from packshot.domain.training import Method
from packshot.ports import Progress

# At a step, before and after the checkpoint of step 4; and at every fsync of that checkpoint: metrics, its two files,
# its folder, the folder above it.
PLANS: list[tuple[str, Method, int | None, int | None]] = [
    ("pivotal-3", Method.PIVOTAL, 3, None),
    *((f"{method}-5", method, 5, None) for method in Method),
    *((f"sync-{sync}", Method.PIVOTAL, None, sync) for sync in range(1, 6)),
]
CHECKPOINT_EVERY = 4


@pytest.fixture(scope="module")
def killed(base_folder: Path, cachedir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("killed")
    path = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "kill_trainings.py"), str(base_folder), str(cachedir), str(runs)],
        input=json.dumps(PLANS),
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert done.stdout.splitlines() == [f"{name} killed" for name, *_ in PLANS]
    return runs


@pytest.fixture(scope="module")
def uninterrupted(studio: Studio, cachedir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Method, bytes]:
    runs = tmp_path_factory.mktemp("uninterrupted")
    return {
        method: train(studio, task(studio, runs / method, method=method, cachedir=cachedir)).files[
            "weights.safetensors"
        ]
        for method in Method
    }


@pytest.mark.parametrize(("name", "method", "step", "sync"), PLANS, ids=[plan[0] for plan in PLANS])
def test_a_killed_run_goes_on_to_the_same_weights(
    name: str,
    method: Method,
    step: int | None,
    sync: int | None,
    killed: Path,
    uninterrupted: dict[Method, bytes],
    studio: Studio,
    cachedir: Path,
) -> None:
    del sync
    of = task(studio, killed / name, method=method, cachedir=cachedir)
    reported: list[Progress] = []
    trained = studio.trainer.train(of, report=reported.append, stop=never)
    assert trained.files["weights.safetensors"] == uninterrupted[method]
    first = next(each.step for each in reported if each.phase == "training")
    assert (step or CHECKPOINT_EVERY) - (first - 1) <= CHECKPOINT_EVERY
    assert not list((killed / name / "checkpoints").glob(".writing-*"))
