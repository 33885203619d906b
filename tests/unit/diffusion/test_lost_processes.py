"""A process that is killed while it shares a training."""

import signal
from pathlib import Path

import pytest
from fixtures_pipelines import Studio, never, task, train
from fixtures_processes import EPSILON, check_close, of_folder, two_processes

from packshot.domain.errors import ProcessLost
from packshot.ports import Progress


def test_a_killed_process_ends_the_others_and_the_training_goes_on_later(
    studio: Studio, cachedir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("packshot.diffusion.optimizers.EPSILON", EPSILON)
    studio = of_folder(studio)
    of = task(studio, tmp_path / "run", cachedir=cachedir)
    with two_processes() as pair:

        def kill(progress: Progress) -> None:
            if progress.phase == "training" and progress.step == 5:
                pair.other.send_signal(signal.SIGKILL)
                pair.other.wait()

        with pytest.raises(ProcessLost, match="the same command goes on"):
            pair.train(studio, of, report=kill)
        assert pair.processes.broken
    seen: list[Progress] = []
    resumed = studio.trainer.train(of, report=seen.append, stop=never)
    assert next(each.step for each in seen if each.phase == "training") == 5
    check_close(resumed, train(studio, task(studio, tmp_path / "alone", cachedir=cachedir)))
