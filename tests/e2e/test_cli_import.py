"""``packshot import`` in a real workspace."""

from pathlib import Path

import pytest
from fixtures_pipelines import save_pipeline
from shell import PATH, prepare, train, weights_of


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_pipeline(folder / "base")
    return folder


def test_an_export_comes_back_as_a_version_that_serves(new_shell, models, tmp_path):
    shell = new_shell()
    prepare(shell, tmp_path)
    train(shell, models, steps=1)
    shell("export", f"{PATH}@1", "--format", "kohya", "--out", tmp_path / "out")
    taken = shell("import", PATH, tmp_path / "out", "--json").json
    assert (taken["version"], taken["method"], taken["training_run_id"]) == (2, "pivotal", None)
    assert weights_of(shell, 2) == weights_of(shell, 1)
    shown = shell("show", f"{PATH}@2").out
    assert "in the kohya layout" in shown
    assert "produce-apple-fuji-v1.safetensors  sha256 " in shown
    assert "modelspec.trigger_phrase" in shown
    shell("promote", f"{PATH}@2", "--reason", "the same")
    shell("generate", "sks_fuji_apple on grass", "--steps", 2, "--out", tmp_path / "pictures")
    before = shell.stored()
    pickle = tmp_path / "lora.ckpt"
    pickle.write_bytes(b"no")
    assert "is a pickle" in shell("import", PATH, pickle, code=2).err
    assert "--trigger" not in shell("import", PATH, tmp_path / "out" / "none.safetensors", code=2).err
    assert shell.stored() == before
