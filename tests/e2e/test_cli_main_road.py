"""From photos to pictures by the command line, with a tiny random base: every step, every record, every output."""

from pathlib import Path

import pytest
import torch
from fixtures_pipelines import save_pipeline
from photos import save_photo
from shell import PATH, SETTINGS, prepare, train, weights_of
from tiny_judges import clip, vit

from packshot.imaging.recipe import read_recipe


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_pipeline(folder / "base")
    vit(folder / "embedder")
    clip(folder / "clip")
    return folder


@pytest.fixture
def ready(new_shell, models, tmp_path):
    """A workspace with a frozen category of eight photos, and ways to train it."""
    shell = new_shell(
        PACKSHOT_JUDGE_EMBEDDER=str(models / "embedder"),
        PACKSHOT_JUDGE_CLIP=str(models / "clip"),
    )
    prepare(shell, tmp_path)
    return shell


def test_the_whole_way_from_photos_to_pictures_and_back(ready, models, tmp_path):
    listed = ready("category", "list", "--json").json
    assert [(each["category"]["identifier"], each["num_references"]) for each in listed] == [("sks_fuji_apple", 8)]
    report = ready("references", "check", PATH, "--json").json
    assert report["freezable"]
    assert {image["rights"]["license"] for image in report["images"]} == {"CC0-1.0"}

    first = train(ready, models, "--json").json
    assert (first["version"], first["method"]) == (1, "pivotal")
    second = train(ready, models, "--method", "lora", "--seed", 4)
    assert f"{PATH}@2: lora, 3 steps" in second.out

    evaluated = ready("evaluate", f"{PATH}@1", "--images-per-scene", 1, "--out", tmp_path / "out", "--json").json
    assert evaluated["fine_tune_id"] == first["id"]
    assert set(evaluated["fine_tune"]) == set(evaluated["base"])
    assert (tmp_path / "out" / "produce-apple-fuji-v1-sheet.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "out" / "produce-apple-fuji-v1-report.json").is_file()

    ready("promote", f"{PATH}@1", "--reason", "a test")
    prompt = "SKS_fuji_apple on a wooden table"
    made = ready("generate", prompt, "-n", 2, "--seed", 7, "--steps", 2, "--out", tmp_path / "out", "--json").json
    assert [image["seed"] for image in made["images"]] == [7, 8]
    assert len(made["files"]) == 3
    assert all(Path(file).read_bytes().startswith(b"\x89PNG") for file in made["files"])
    recipe = read_recipe(Path(made["files"][1]).read_bytes())
    assert recipe
    assert (recipe["seed"], recipe["prompt"]) == (8, prompt)

    image_id = made["images"][1]["id"]
    lineage = ready("show", image_id, "--json").json
    assert lineage["fine_tune"]["id"] == first["id"]
    assert len(lineage["references"]) == 8
    assert lineage["run"]["config"]["steps"] == 3
    assert lineage["base"]["source"] == str(models / "base")
    text = ready("show", image_id).out
    for fact in (image_id, "steps=3", lineage["base"]["digest"], "7.png", "CC0-1.0", "evaluation", "promote", prompt):
        assert fact in text

    refused = ready("promote", f"{PATH}@2", code=1)
    assert f"packshot evaluate {PATH}@2" in refused.err
    assert "--reason" in refused.err
    ready("promote", f"{PATH}@2", "--reason", "another test")
    assert ready("category", "show", PATH, "--json").json["serving_version"] == 2
    assert "serves version 1 again" in ready("rollback", PATH).out
    again = ready("generate", prompt, "--seed", 8, "--steps", 2, "--out", tmp_path / "out", "--json").json
    assert again["images"][0]["sha256"] == made["images"][1]["sha256"]
    assert ready("rollback", PATH, code=1).err.startswith("error: produce/apple/fuji serves its first version")


@pytest.mark.parametrize("method", ["full", "lora"])
def test_equal_commands_give_equal_weights_and_another_seed_others(ready, models, method):
    train(ready, models, "--method", method)
    train(ready, models, "--method", method)
    train(ready, models, "--method", method, "--seed", 1)
    assert weights_of(ready, 1) == weights_of(ready, 2) != weights_of(ready, 3)


def test_a_configuration_file_is_overridden_by_settings_and_settings_by_flags(ready, models, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("method: lora\nsteps: 9\nseed: 9\nlearning_rate: 1e-4\n")
    train(ready, models, "--config", config, "--set", "seed=5", "--set", "steps=8", steps=2)
    chosen = ready("show", PATH, "--json").json["run"]["config"]
    assert (chosen["method"], chosen["steps"], chosen["seed"], chosen["learning_rate"]) == ("lora", 2, 5, 1e-4)


def test_the_demo_ends_with_its_sheet_whatever_lies_beside_the_photos_and_whatever_the_gate_says(
    ready, models, tmp_path
):
    for name, count in (("catalog/Pink_Lady", 6), ("catalog/few", 2), ("catalog/no good name", 1)):
        (tmp_path / name).mkdir(parents=True)
        for seed in range(count):
            save_photo(tmp_path / name / f"{seed}.png", seed)
    photos = tmp_path / "catalog" / "Pink_Lady"
    arguments = ["--photos", photos, "--class-noun", "apple", "--base", models / "base", "--set", "steps=1", *SETTINGS]
    shown = ready("demo", *arguments, "--out", tmp_path / "out", "--json")
    assert Path(shown.json["sheet"]).read_bytes().startswith(b"\x89PNG")
    assert f"{tmp_path / 'catalog' / 'few'} is skipped: photos/apple/few has 2 usable" in shown.err
    assert "no good name is skipped: " in shown.err
    serving = ready("category", "show", "photos/apple/pink-lady", "--json").json["serving_version"]
    assert shown.json["promoted"] is (shown.json["evaluation"]["verdict"]["outcome"] != "rejected")
    assert serving == (1 if shown.json["promoted"] else None)


def test_a_prompt_without_an_identifier_is_answered_by_the_base(ready, models, tmp_path):
    made = ready(
        "generate", "an apple", "--steps", 2, "--base", models / "base", "--out", tmp_path / "out", "--json"
    ).json
    lineage = ready("show", made["images"][0]["id"], "--json").json
    assert lineage["fine_tune"] is None
    assert lineage["base"]["source"] == str(models / "base")


def break_without_unet(base: Path) -> str:
    for file in (base / "unet").iterdir():
        file.unlink()
    return "unet"


def break_with_pickle(base: Path) -> str:
    (base / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x04.")
    return "pickle"


@pytest.mark.parametrize("damage", [break_without_unet, break_with_pickle])
@pytest.mark.parametrize("command", ["train", "generate", "base"])
def test_a_base_that_cannot_be_loaded_safely_is_refused(ready, tmp_path, damage, command):
    bad = save_pipeline(tmp_path / "bad")
    reason = damage(bad)
    before = ready.stored()
    arguments = {
        "train": ["train", PATH, "--base", bad],
        "generate": ["generate", "an apple", "--base", bad],
        "base": ["base", "add", bad],
    }[command]
    failed = ready(*arguments, code=1)
    assert reason in failed.err
    assert str(bad) in failed.err
    assert "Traceback" not in failed.err
    assert ready.stored() == before


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("stepz=3", "unknown configuration key 'stepz'; did you mean steps"),
        ("rank=0", "rank is 0; it must lie between 1 and 1024"),
        ("steps", "--set 'steps' has no '='"),
        ("seed=x", "seed is 'x'; write a whole number"),
    ],
)
def test_a_bad_configuration_is_wrong_usage_and_records_nothing(ready, models, setting, message):
    before = ready.stored()
    failed = ready("train", PATH, "--base", models / "base", "--set", setting, code=2)
    assert message in failed.err
    assert ready.stored() == before


def test_a_full_fine_tune_is_stored_smaller_and_serves(ready, models, tmp_path):
    train(ready, models, "--method", "full")
    whole, smaller = f"{PATH}@1", f"{PATH}@2"
    report = ready("compress", whole, "--rank", 1, "--json").json["compression"]
    assert report["num_bytes"] < report["num_bytes_before"]
    assert 0 < report["relative_error"] < 1
    assert "compressed  from version 1: " in ready("show", smaller).out
    assert "fidelity lost not measured yet" in ready("show", smaller).out
    for each in (whole, smaller):
        ready("evaluate", each, "--images-per-scene", 1, "--out", tmp_path / "out")
    assert "not measured yet" not in ready("show", smaller).out
    ready("promote", smaller, "--reason", "small")
    made = ready("generate", "sks_fuji_apple on grass", "--steps", 2, "--out", tmp_path / "out", "--json").json
    assert made["images"]
    assert "compress a full one" in ready("compress", smaller, code=2).err


def test_photos_without_a_caption_get_one_and_keep_it_in_the_next_set(ready):
    assert "a photo of an apple on moss" in ready("references", "caption", PATH, "--setting", "on moss").out
    assert ready("references", "caption", PATH).out == "every accepted photo has a caption\n"
    assert f"{PATH} set 2: 8 photos" in ready("references", "freeze", PATH).out
    assert "such as 'in a grocery store'" in ready("references", "caption", PATH, "--setting", " ", code=2).err


def test_a_prompt_that_names_nothing_known_records_nothing(ready, models):
    before = ready.stored()
    failed = ready("generate", "sks_fuij_apple on grass", "--base", models / "base", code=2)
    assert "did you mean sks_fuji_apple" in failed.err
    assert ready("generate", "sks_fuji_apple on grass", code=1).err.startswith("error: produce/apple/fuji serves no")
    assert ready.stored() == before


def test_without_its_judge_an_evaluation_fails_and_records_nothing(ready, models, new_shell, tmp_path):
    train(ready, models)
    before = ready.stored()
    failed = type(ready)(ready.home, {**ready.env, "PACKSHOT_JUDGE_CLIP": str(tmp_path / "none")})(
        "evaluate", PATH, code=1
    )
    assert "none" in failed.err
    assert ready.stored() == before


@pytest.mark.parametrize("where", ["file", "file/deeper/still", "/proc/out"])
@pytest.mark.parametrize("command", ["generate", "evaluate", "demo"])
def test_a_folder_that_cannot_be_written_is_refused_before_any_work(ready, models, tmp_path, command, where):
    (tmp_path / "file").write_text("in the way")
    out = tmp_path / where
    arguments = {
        "generate": ["generate", "an apple", "--steps", 2, "--base", models / "base"],
        "evaluate": ["evaluate", PATH],
        "demo": ["demo", "--photos", tmp_path / "photos", "--class-noun", "apple", "--base", models / "base"],
    }[command]
    before = ready.stored()
    failed = ready(*arguments, "--out", out, code=2)
    assert f"error: cannot write to {out} (" in failed.err
    assert "choose another folder with --out" in failed.err
    assert ready.stored() == before


def test_a_folder_that_is_missing_is_made_when_there_is_something_to_write(ready, models, tmp_path):
    out = tmp_path / "some" / "where"
    ready("generate", "sks_fuji_apple", "--out", out, code=1)
    assert not (tmp_path / "some").exists()
    ready("generate", "an apple", "--steps", 2, "--base", models / "base", "--out", out)
    assert len(list(out.iterdir())) == 1
