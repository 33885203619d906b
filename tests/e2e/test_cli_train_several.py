"""``packshot train`` for several categories, in real processes: together, interrupted, and with one that fails."""

import signal
import threading
from pathlib import Path

import pytest
import torch
from fixtures_pipelines import save_pipeline
from photos import save_photo
from shell import SETTINGS, Shell

PATHS = ["produce/apple/fuji", "produce/apple/gala", "produce/pear/conference"]
STEPS = ("--steps", 40, "--set", "checkpoint_every_steps=10")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return save_pipeline(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture
def ready(new_shell, tmp_path) -> Shell:
    shell = new_shell(PACKSHOT_LEASE_S="1")
    for number, path in enumerate(PATHS):
        folder = tmp_path / f"photos-{number}"
        folder.mkdir()
        for seed in range(5):
            save_photo(folder / f"{seed}.png", 100 * number + seed)
        shell("category", "add", path, "--class-noun", path.split("/")[1])
        shell("references", "add", path, folder, "--source", "our studio", "--license", "CC0-1.0")
        shell("references", "freeze", path)
    return shell


def weights(shell: Shell, path: str, version: int) -> str:
    artifacts = shell("show", f"{path}@{version}", "--json").json["fine_tune"]["artifacts"]
    return next(each["sha256"] for each in artifacts if each["name"] == "weights.safetensors")


def arguments(base: Path) -> list[object]:
    return ["--base", base, *SETTINGS, *STEPS]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_catalog_goes_on_to_the_weights_of_trainings_alone(ready, base, how):
    process = ready.start("train", "--all", "produce/**", *arguments(base))
    pause = threading.Event()
    while len(list((ready.home / "runs").rglob("step-*"))) < len(PATHS):
        assert process.poll() is None, process.communicate()
        pause.wait(0.005)
    process.send_signal(how)
    _, err = process.communicate()
    assert "Traceback" not in err
    again = ready("train", *PATHS, *arguments(base), "--json")
    assert again.err.count("going on with run") == len(PATHS)
    assert [(each["path"], each["status"], each["version"]) for each in again.json] == [
        (path, "succeeded", 1) for path in PATHS
    ]
    for path in PATHS:
        ready("train", path, *arguments(base))
        assert weights(ready, path, 1) == weights(ready, path, 2)


def test_a_category_that_cannot_be_trained_does_not_stop_the_others(ready, base):
    ready("category", "add", "produce/apple/unseen", "--class-noun", "apple")
    done = ready("train", "--all", "produce/apple/*", "produce/nowhere", *arguments(base), "--steps", 2, code=1)
    assert "produce/apple/unseen has no frozen reference set" in done.out
    assert "there is no category 'produce/nowhere'" in done.out
    assert "2 of 4 categories trained" in done.out
    assert "produce/apple/fuji training (2)" in done.err
    assert ready("category", "show", "produce/apple/gala", "--json").json["fine_tunes"]


def test_what_to_train_must_be_said(ready):
    assert "no category is given" in ready("train", code=2).err
    assert "--detach leaves one category" in ready("train", *PATHS, "--detach", code=2).err
    assert "no category in use has a path like" in ready("train", "--all", "clothes/**", code=1).err
