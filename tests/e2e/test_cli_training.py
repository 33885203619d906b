"""What ``packshot train`` says before it begins, shows on its way and keeps: with a tiny random base and judge."""

from pathlib import Path

import pytest
import torch
from fixtures_pipelines import save_pipeline
from shell import PATH, SETTINGS, Shell, prepare, train, weights_of
from tiny_judges import clip, vit


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
def ready(new_shell, models, tmp_path) -> Shell:
    judges = {f"PACKSHOT_JUDGE_{part.upper()}": str(models / part) for part in ("embedder", "clip")}
    shell = new_shell(**judges)
    prepare(shell, tmp_path)
    return shell


def test_a_dry_run_prints_configuration_memory_and_time_and_records_nothing(ready, models):
    before = ready.stored()
    told = ready("train", PATH, "--base", models / "base", "--preset", "best", "--set", "rank=3", "--dry-run")
    assert ready.stored() == before
    for line in (
        "choose_steps                 True",
        "steps                        500",
        "rank                         3",
    ):
        assert line in told.out
    assert "estimate: " in told.out
    assert "million parameters learn" in told.out
    value = ready("train", PATH, "--base", models / "base", *SETTINGS, "--dry-run", "--json").json
    assert value["config"]["rank"] == 2
    assert value["cost"]["seconds"] > 0
    assert 10**8 < value["cost"]["peak_bytes"] < 10**11


def test_a_training_says_what_it_will_take_before_it_begins(ready, models):
    said = train(ready, models).err
    assert said.index("estimate: ") < said.index("training (3)")


def test_validation_pictures_are_on_a_sheet_that_the_report_gives(ready, models, tmp_path):
    prompts = "validation_prompts={product} on grass | an apple"
    shown = train(ready, models, "--set", prompts, "--set", "validation_every_steps=2")
    assert "validation pictures (2)" in shown.err
    plain = train(ready, models)
    assert "validation pictures" not in plain.err
    out = tmp_path / "out"
    told = ready("report", f"{PATH}@1", "--out", out)
    assert told.out.startswith(f"{PATH}@1: pivotal, 3 steps\n")
    names = {file.name for file in out.iterdir()}
    pictures = [f"validation-00000{step}-0{number}.png" for step in (0, 2, 3) for number in (1, 2)]
    assert names == {
        f"produce-apple-fuji-v1-{name}" for name in ("loss.png", "metrics.jsonl", "validation.png", *pictures)
    }


def test_chosen_steps_are_told_with_reasons_and_kept_with_a_plot(ready, models, tmp_path):
    auto = ["--set", "choose_steps=true", "--set", "validation_every_steps=1"]
    told = train(ready, models, *auto, steps=2)
    assert f"{PATH}@1: pivotal, step " in told.out
    assert ", chosen among 2" in told.out
    assert "has the highest merit" in told.out
    report = ready("report", f"{PATH}@1", "--out", tmp_path / "out", "--json").json
    assert "has the highest merit" in report["reasons"][0]
    names = {Path(file).name for file in report["files"]}
    assert {"produce-apple-fuji-v1-steps.json", "produce-apple-fuji-v1-steps.png"} < names
    assert weights_of(ready)


def test_an_imported_fine_tune_has_no_training_to_report_of_and_unknown_presets_are_refused(ready, models):
    assert "Invalid value for '--preset'" in ready("train", PATH, "--preset", "fast", code=2).err
    lines = ready("presets", "--base", models / "base").out.splitlines()
    assert len(lines) == 1 + 5 * 3
    assert lines[0].split()[:3] == ["METHOD", "PRESET", "STEPS"]
    assert any("guess: " in line for line in lines[1:])
