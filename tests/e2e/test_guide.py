"""The guide says what the program does: its commands run, and print what the page shows."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures_pipelines import save_pipeline
from shell import SETTINGS, THREADS
from tiny_judges import clip, vit

DOCS = Path(__file__).parents[2] / "docs"


def test_the_commands_of_the_curation_guide_print_what_the_page_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DOCS)
    from transcripts import same, transcribed

    page = (DOCS / "guide" / "curation.md").read_text(encoding="utf-8")
    now = transcribed(page)
    assert same(now, page), now
    report = now.partition("references check")[2]
    for shown in (
        "05-foreign.jpg         accepted",
        "refused: near-duplicate",
        "refused: blurred",
        "refused: underexposed",
        "refused: too-small",
        "6 accepted; ready to freeze",
        "5 accepted; ready to freeze",
        "produce/apple/gala set 1: 5 photos",
    ):
        assert shown in report


def test_the_commands_of_the_training_guide_run(new_shell, tmp_path: Path) -> None:
    base = save_pipeline(tmp_path / "base")
    judges = {"PACKSHOT_JUDGE_EMBEDDER": vit(tmp_path / "embedder"), "PACKSHOT_JUDGE_CLIP": clip(tmp_path / "clip")}
    shell = new_shell(**{name: str(each) for name, each in judges.items()})
    path, photos = "produce/apple/honeycrisp", "src/packshot/embedded/catalog/produce/apple/honeycrisp"
    shell("category", "add", path, "--class-noun", "apple")
    shell("references", "add", path, DOCS.parent / photos)
    shell("references", "freeze", path)
    page = (DOCS / "guide" / "training.md").read_text(encoding="utf-8")
    lines = "".join(re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)).splitlines()
    told: list[tuple[str, str]] = []
    for program, verb, *arguments in map(shlex.split, lines):
        assert program == "packshot"
        chooses = ["--set", "choose_steps=true"] if "auto" in arguments else []
        quicker = ["--base", base, *SETTINGS, "--steps", 2, *chooses] if verb == "train" else []
        told.append((" ".join([verb, *arguments[1:]]), shell(verb, *arguments, *quicker).out))
    said = dict(told)
    assert "estimate: " in said["train --preset draft --dry-run"]
    assert "guess: " in said["presets"]
    assert "has the highest merit" in said["train --steps auto"]
    after_prompts, after_auto = (out for command, out in told if command == "report")
    assert "-validation.png" in after_prompts
    assert "-steps.png" in after_auto


def test_the_commands_of_the_templates_guide_run(shell, tmp_path: Path) -> None:
    base = save_pipeline(tmp_path / "base")
    path, photos = "produce/apple/honeycrisp", "src/packshot/embedded/catalog/produce/apple/honeycrisp"
    shell("category", "add", path, "--class-noun", "apple")
    shell("references", "add", path, DOCS.parent / photos)
    shell("references", "freeze", path)
    shell("train", path, "--base", base, "--steps", 2, *SETTINGS)
    shell("promote", f"{path}@1", "--reason", "a test")
    page = (DOCS / "guide" / "templates.md").read_text(encoding="utf-8")
    out = tmp_path / "out"
    out.mkdir()
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [
            "bash",
            "-euo",
            "pipefail",
            "-c",
            "\n".join(re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)),
        ],
        cwd=DOCS.parent,
        env={**os.environ, **THREADS, **shell.env, "PATH": programs, "OUT": str(out), "STEPS": "2"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    rendered = "a studio photo of a sks_honeycrisp_apple on a marble counter, cool light\nnot: text, people"
    assert rendered in done.stdout
    assert "4 pictures, 8 denoising steps; 0 jobs wait before it" in done.stdout
    assert len(list((out / "single").glob("img_*.png"))) == 2
    campaign = sorted(str(file.relative_to(out / "campaign")) for file in (out / "campaign").rglob("*.*"))
    pictures = [f"{path}/{name}-v1-seed{seed}.png" for name in ("banner", "summer") for seed in (7, 8)]
    assert campaign == ["manifest.csv", "manifest.jsonl", *pictures, "sheet.png"]
