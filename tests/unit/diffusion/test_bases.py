import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest
import torch
from fixtures_pipelines import RESOLUTION, save_pipeline
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file

from packshot.diffusion.bases import DiffusersBaseModels
from packshot.digests import FileDigests
from packshot.domain.errors import BaseModelRefused, CorruptArtifact, InvalidInput
from packshot.embedded.bundle import bundled_base, write_manifest


@pytest.fixture
def folder(base_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(base_folder, tmp_path / "copy"))


def bases(folder: Path = Path("/nowhere")) -> DiffusersBaseModels:
    return DiffusersBaseModels(embedded=lambda: folder, digests=FileDigests(), device="cpu")


def refusal(folder: Path) -> str:
    with pytest.raises(BaseModelRefused) as caught:
        bases().describe(str(folder))
    return str(caught.value)


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_folder_is_described_without_loading_it(folder: Path) -> None:
    found = bases().describe(str(folder))
    assert (found.family, found.resolution, found.revision) == ("stable-diffusion", RESOLUTION, "")
    assert found.source == str(folder.resolve())
    assert len(found.digest) == 64


def test_the_embedded_base_keeps_its_name(folder: Path) -> None:
    found = bases(folder).describe("embedded")
    assert found.source == "embedded"
    assert found.digest == bases().describe(str(folder)).digest


def test_equal_files_have_equal_digests_and_others_do_not(folder: Path, tmp_path: Path) -> None:
    digest = bases().describe(str(folder)).digest
    other = Path(shutil.copytree(folder, tmp_path / "elsewhere"))
    (other / "README.md").write_text("not read by the loader")
    assert bases().describe(str(other)).digest == digest
    edit_json(other / "scheduler" / "scheduler_config.json", beta_end=0.013)
    assert bases().describe(str(other)).digest != digest


@pytest.mark.parametrize("component", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_missing_component_is_named(folder: Path, component: str) -> None:
    shutil.rmtree(folder / component)
    assert f"no {component}" in refusal(folder)


def test_a_component_that_the_index_does_not_list_is_missing(folder: Path) -> None:
    edit_json(folder / "model_index.json", unet=[None, None])
    assert "no unet" in refusal(folder)


def test_a_component_of_another_class_is_refused(folder: Path) -> None:
    edit_json(folder / "model_index.json", unet=["diffusers", "SD3Transformer2DModel"])
    assert "SD3Transformer2DModel" in refusal(folder)


@pytest.mark.parametrize("name", ["unet/diffusion_pytorch_model.bin", "text_encoder/model.pt", "v1.ckpt"])
def test_a_pickle_is_refused_beside_safetensors(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"\x80\x04.")
    message = refusal(folder)
    assert name in message
    assert "safetensors" in message


def test_a_pickle_is_refused_in_place_of_safetensors(folder: Path) -> None:
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    assert "diffusion_pytorch_model.bin" in refusal(folder)


def test_missing_weights_are_named(folder: Path) -> None:
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    assert "no safetensors weights in vae" in refusal(folder)


def test_an_unknown_family_names_the_known_ones(folder: Path) -> None:
    edit_json(folder / "model_index.json", _class_name="PixArtAlphaPipeline")
    message = refusal(folder)
    assert "PixArtAlphaPipeline" in message
    assert "stable-diffusion" in message


@pytest.mark.parametrize("content", [b"", b"{", b"[]"])
def test_a_damaged_index_is_refused(folder: Path, content: bytes) -> None:
    (folder / "model_index.json").write_bytes(content)
    assert "model_index.json" in refusal(folder)


@pytest.mark.parametrize("num_bytes", [0, 5, 100, 3000])
def test_truncated_weights_are_refused(folder: Path, num_bytes: int) -> None:
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:num_bytes])
    assert "damaged weights, unet/" in refusal(folder)


def test_a_base_without_a_native_size_is_refused(folder: Path) -> None:
    edit_json(folder / "unet" / "config.json", sample_size=None)
    assert "sample_size" in refusal(folder)


@pytest.mark.parametrize("source", ["./nowhere", "/nowhere/at/all", "nowhere", "a/b/c", "../no-such-folder"])
def test_what_is_neither_folder_nor_hub_id_is_refused(source: str) -> None:
    with pytest.raises(BaseModelRefused, match="is no folder"):
        bases().describe(source)


def test_loading_gives_frozen_weights_once(folder: Path) -> None:
    store = bases()
    described = store.describe(str(folder))
    with store.borrow(described) as first:
        assert not any(parameter.requires_grad for parameter in first.denoiser.parameters())
        assert {parameter.dtype for parameter in first.denoiser.parameters()} == {torch.float32}
    with store.borrow(described) as second:
        assert second is first


def test_a_base_that_changed_since_it_was_described_is_corrupt(folder: Path) -> None:
    described = bases().describe(str(folder))
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(CorruptArtifact, match="digest"), bases().borrow(described):
        pass


def test_a_base_that_is_gone_is_refused(folder: Path) -> None:
    described = bases().describe(str(folder))
    shutil.rmtree(folder)
    with pytest.raises(BaseModelRefused), bases().borrow(described):
        pass


def test_weights_that_lack_a_tensor_are_refused_instead_of_filled_at_random(folder: Path) -> None:
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    del tensors["conv_in.weight"]
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(BaseModelRefused, match="unet"), bases().borrow(bases().describe(str(folder))):
        pass


def test_a_prediction_type_that_is_not_supported_is_refused(tmp_path: Path) -> None:
    folder = save_pipeline(tmp_path / "base", prediction_type="flow_prediction")
    with pytest.raises(BaseModelRefused, match="'flow_prediction'"), bases().borrow(bases().describe(str(folder))):
        pass


def test_a_hub_model_is_recorded_with_its_commit_and_pickles_are_never_fetched(
    base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    asked: list[tuple[str, str | None]] = []

    def fetch(repo: str, *, revision: str | None, allow_patterns: list[str], ignore_patterns: list[str]) -> str:
        asked.append((repo, revision))
        assert all(pattern.endswith((".json", ".txt", ".safetensors")) for pattern in allow_patterns)
        assert "*.fp16.*" in ignore_patterns
        return str(shutil.copytree(base_folder, tmp_path / commit, dirs_exist_ok=True))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    store = bases()
    found = store.describe("owner/model")
    assert (found.source, found.revision) == ("owner/model", commit)
    with store.borrow(found):
        assert asked == [("owner/model", None), ("owner/model", commit)]


def test_without_a_network_a_hub_model_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    with pytest.raises(BaseModelRefused, match="network"):
        bases().describe("owner/model")


def test_the_digest_changes_with_every_file_that_is_read(folder: Path) -> None:
    digests = {bases().describe(str(folder)).digest}
    read = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in read:
        before = path.read_bytes()
        if path.suffix == ".safetensors":
            path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        else:
            path.write_bytes(before + b"\n")
        digests.add(bases().describe(str(folder)).digest)
        path.write_bytes(before)
    assert len(digests) == len(read) + 1


def test_a_bundled_base_that_is_damaged_is_neither_described_nor_loaded(folder: Path) -> None:
    weights = folder.parent / "weights"
    weights.mkdir()
    folder.rename(weights / "base")
    write_manifest(weights)
    store = DiffusersBaseModels(embedded=lambda: bundled_base(weights), digests=FileDigests(), device="cpu")
    described = store.describe("embedded")
    with store.borrow(described) as loaded:
        assert loaded.resolution == RESOLUTION
    edit_json(weights / "base" / "scheduler" / "scheduler_config.json", beta_end=0.013)
    with pytest.raises(CorruptArtifact, match=r"scheduler/scheduler_config\.json is altered"):
        store.describe("embedded")
    again = DiffusersBaseModels(embedded=lambda: bundled_base(weights), digests=FileDigests(), device="cpu")
    with pytest.raises(CorruptArtifact, match=r"scheduler/scheduler_config\.json is altered"), again.borrow(described):
        pass


def test_a_described_base_is_not_hashed_again_until_a_file_changes(folder: Path) -> None:
    memory = folder.parent / "digests.json"

    def later() -> int:
        return time.time_ns() + 10**10

    def digest() -> str:
        store = DiffusersBaseModels(embedded=lambda: folder, digests=FileDigests(memory, later), device="cpu")
        return store.describe(str(folder)).digest

    first, remembered = digest(), json.loads(memory.read_text())
    assert digest() == first
    unet = str(folder.resolve() / "unet" / "diffusion_pytorch_model.safetensors")
    memory.write_text(json.dumps(remembered | {unet: [remembered[unet][0], "0" * 64]}))
    assert digest() != first  # the forged entry answered: the file was not read
    edit_json(folder / "scheduler" / "scheduler_config.json", beta_end=0.013)
    memory.write_text(json.dumps(remembered))
    assert digest() != first


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_prediction_type_is_known_while_the_recorded_files_are_at_hand(tmp_path: Path, prediction: str) -> None:
    folder = save_pipeline(tmp_path / "base", prediction_type=prediction)
    store = bases(folder)
    described, embedded = store.describe(str(folder)), store.describe("embedded")
    assert store.prediction_type(described) == store.prediction_type(embedded) == prediction
    edit_json(folder / "unet" / "config.json", changed=True)
    assert store.prediction_type(described) is None
    shutil.rmtree(folder)
    assert store.prediction_type(described) is None


def test_a_scheduler_that_does_not_say_predicts_the_noise(folder: Path) -> None:
    scheduler = folder / "scheduler" / "scheduler_config.json"
    config = json.loads(scheduler.read_text())
    del config["prediction_type"]
    scheduler.write_text(json.dumps(config))
    assert bases().prediction_type(bases().describe(str(folder))) == "epsilon"


def test_the_prediction_type_of_a_hub_model_comes_from_the_cache_alone(
    base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = tmp_path / "models--owner--model" / "snapshots" / commit
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    described = replace(bases().describe(str(base_folder)), source="owner/model", revision=commit)
    assert bases().prediction_type(described) is None
    shutil.copytree(base_folder, snapshot)
    assert bases().prediction_type(described) == "epsilon"


@pytest.mark.parametrize("source", ["embedded", "folder"])
def test_a_revision_of_a_folder_is_refused(folder: Path, source: str) -> None:
    with pytest.raises(InvalidInput, match="no revision 'v1'"):
        bases(folder).describe("embedded" if source == "embedded" else str(folder), "v1")


def test_offline_a_hub_model_that_is_not_cached_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(BaseModelRefused, match="check the name, the network and HF_TOKEN, or give a local folder"):
        bases().describe("packshot-tests/no-such-model")
