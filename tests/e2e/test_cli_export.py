"""``packshot export`` in a real workspace."""

from pathlib import Path

import pytest
from fixtures_pipelines import save_pipeline
from safetensors import safe_open
from shell import PATH, prepare, train


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_pipeline(folder / "base")
    return folder


def test_a_fine_tune_is_exported_for_other_tools(new_shell, models, tmp_path):
    shell = new_shell()
    prepare(shell, tmp_path)
    train(shell, models, steps=1)
    out = tmp_path / "out"
    told = shell("export", f"{PATH}@1", "--out", out, "--json").json
    assert {Path(file).name for file in told["files"]} == {
        "pytorch_lora_weights.safetensors",
        "learned_embeds.safetensors",
    }
    told = shell("export", PATH, "--format", "kohya", "--out", out, "--json").json
    assert {Path(file).name for file in told["files"]} == {
        "produce-apple-fuji-v1.safetensors",
        "produce-apple-fuji-v1-token.safetensors",
    }
    with safe_open(out / "produce-apple-fuji-v1.safetensors", "pt") as file:
        assert file.metadata()["modelspec.trigger_phrase"] == told["trigger_phrase"]
    assert told["trigger_phrase"] in shell("export", PATH, "--format", "safetensors", "--out", out).out
    shell("export", f"{PATH}@2", code=1)
    shell("export", PATH, "--format", "ckpt", code=2)
    train(shell, models, "--method", "hypernetwork", steps=1)
    assert "choose safetensors" in shell("export", PATH, "--out", out, code=2).err
