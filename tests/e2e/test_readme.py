"""The README's first ten minutes, command by command, as a newcomer types them."""

import shlex
from pathlib import Path

import pytest
import torch
from fixtures_pipelines import save_pipeline
from shell import SETTINGS, THREADS, Shell
from tiny_judges import clip, vit

ROOT = Path(__file__).parents[2]
SECTION = "## The first ten minutes"
BEFORE = ("make ", ". ")  # what makes and enters the environment that runs these tests

# What each command is given besides, to be quick; the last --base counts.
QUICKER = {
    "train": ["--set", "steps=2", *SETTINGS],
    "evaluate": ["--images-per-scene", "1"],
    "generate": ["--steps", "2"],
}


def commands() -> list[list[str]]:
    """The indented lines of the section, each split as a shell does."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split(f"{SECTION}\n")[1].split("\n## ")[0]
    lines = [line.strip() for line in section.splitlines() if line.startswith("    ")]
    return [shlex.split(line) for line in lines if not line.startswith(BEFORE)]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def newcomer(tmp_path: Path) -> Shell:
    """An empty folder in which the sources lie, with small models at hand."""
    home = tmp_path / "checkout" / ".packshot"
    home.parent.mkdir()
    (home.parent / "src").symlink_to(ROOT / "src")
    models = {"PACKSHOT_JUDGE_EMBEDDER": vit(tmp_path / "embedder"), "PACKSHOT_JUDGE_CLIP": clip(tmp_path / "clip")}
    return Shell(home, {"PACKSHOT_HOME": ".packshot", **THREADS, **{name: str(each) for name, each in models.items()}})


def test_the_first_ten_minutes_work_as_they_are_written(newcomer, tmp_path):
    base = ["--base", str(save_pipeline(tmp_path / "base"))]
    steps = commands()
    for program, *arguments in steps:
        assert program == "packshot"
        verb = arguments[0]
        done = newcomer(*arguments, *QUICKER.get(verb, []), *(base if verb == "train" else []))
        assert done.out.strip(), arguments
    verbs = [arguments[1] for arguments in steps]
    assert verbs[0] == "init"
    assert {"category", "references", "train", "evaluate", "promote", "generate", "show"} == set(verbs[1:])
    pictures = [path.name for path in (newcomer.home.parent / "out").iterdir()]
    assert len([name for name in pictures if name.startswith("img_")]) == 4
