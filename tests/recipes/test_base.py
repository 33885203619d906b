"""The base's training program: what a warm start refuses, before it reads a corpus or writes anything."""

import runpy
import shutil
import sys
from pathlib import Path

import pytest
from diffusers import AutoencoderKL
from fixtures_pipelines import save_pipeline

from packshot.embedded.bundle import bundled_base

RECIPE = Path(__file__).parents[2] / "recipes" / "embedded"


def warm_start(work: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """Run the program with --warm-start in a work folder without a corpus; returns what it ended with."""
    monkeypatch.setenv("PACKSHOT_RECIPE_WORK", str(work))
    monkeypatch.syspath_prepend(RECIPE)
    monkeypatch.setattr(sys, "argv", ["04_base.py", "--threads", "1", "--warm-start"])
    try:
        runpy.run_path(str(RECIPE / "04_base.py"), run_name="__main__")
    except SystemExit as ended:
        return ended.code
    raise AssertionError("it went on")


def test_a_warm_start_refuses_another_autoencoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(save_pipeline(tmp_path / "other") / "vae", tmp_path / "autoencoder/vae")
    assert f"{tmp_path / 'autoencoder/vae'} is not what the packaged weights were trained with" in str(
        warm_start(tmp_path, monkeypatch)
    )
    assert not (tmp_path / "base_run").exists()


def test_a_warm_start_refuses_another_vocabulary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "autoencoder/vae"
    AutoencoderKL.from_pretrained(bundled_base() / "vae").save_pretrained(own)
    tokenizer = tmp_path / "base_run/tokenizer"
    shutil.copytree(bundled_base() / "tokenizer", tokenizer)
    (tokenizer / "vocab.json").write_text("{}")
    assert f"{tokenizer} is not what the packaged weights" in str(warm_start(tmp_path, monkeypatch))
    assert (tokenizer / "vocab.json").read_text() == "{}"
