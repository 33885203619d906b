"""The engine from Python, and workers that mix the pictures of several jobs."""

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures_pipelines import save_pipeline
from PIL import Image
from shell import SETTINGS, THREADS, Shell

from packshot import Engine
from packshot.bootstrap import open_workspace
from packshot.domain.errors import Interrupted, InvalidPrompt, PackshotError, UnknownIdentifier
from packshot.domain.generation import GeneratedImage, Generation, SamplingSettings
from packshot.domain.models import FineTune
from packshot.engine import Pictures
from packshot.imaging.recipe import read_recipe
from packshot.settings import Settings

ROOT = Path(__file__).parents[2]
CATEGORY = "produce/apple/honeycrisp"
QUICK = SamplingSettings(inference_steps=3, seed=5)
LONG = SamplingSettings(inference_steps=400, num_images=8)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_pipeline(tmp_path_factory.mktemp("pipelines") / "base"))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, base: str) -> Shell:
    """A workspace in which a honeycrisp apple is served."""
    home = tmp_path_factory.mktemp("served") / "workspace"
    shell = Shell(home, {"PACKSHOT_HOME": str(home), **THREADS})
    shell("init")
    shell("category", "add", CATEGORY, "--class-noun", "apple")
    shell("references", "add", CATEGORY, ROOT / "src/packshot/embedded/catalog" / CATEGORY)
    shell("references", "freeze", CATEGORY)
    shell("train", CATEGORY, "--base", base, "--steps", 2, *SETTINGS)
    shell("promote", f"{CATEGORY}@1", "--reason", "a test")
    return shell


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def engine(served: Shell) -> Iterator[Engine]:
    with Engine(served.home) as opened:
        yield opened


def test_the_program_in_the_guide_runs(
    served: Shell, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PACKSHOT_HOME", str(served.home))
    page = (ROOT / "docs" / "guide" / "engine.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    exec(program, {})
    lines = capsys.readouterr().out.splitlines()
    assert "picture 0 after step 5" in lines
    assert len([line for line in lines if line.startswith("img_")]) == 5


def test_pictures_are_recorded_with_their_lineage(served: Shell, engine: Engine, base: str) -> None:
    named = engine.submit("sks_honeycrisp_apple on grass", QUICK)
    bare = engine.submit("a pear", QUICK, base=base)
    (apple,), (pear,) = named.result(), bare.result()
    assert named.progress == 1.0
    with open_workspace(Settings(home=served.home)) as space:
        (version,) = space.records.find(FineTune)
        made = {picture.image.id: space.records.get(GeneratedImage, picture.image.id) for picture in (apple, pear)}
        versions = [space.records.get(Generation, each.generation_id).fine_tune_id for each in made.values()]
        assert versions == [version.id, None]
        assert space.blobs.get(apple.image.sha256) == apple.png
    recipe = read_recipe(apple.png)
    assert recipe
    assert (recipe["prompt"], recipe["seed"], recipe["fine_tune_version"]) == ("sks_honeycrisp_apple on grass", 5, 1)


def test_the_engine_makes_what_the_command_makes(served: Shell, engine: Engine) -> None:
    (picture,) = engine.submit("sks_honeycrisp_apple on grass", QUICK).result()
    made = served("generate", "sks_honeycrisp_apple on grass", "--steps", 3, "--seed", 5, "--json").json
    assert made["images"][0]["sha256"] == picture.image.sha256


def test_pictures_can_be_awaited_and_previews_followed(served: Shell, base: str) -> None:
    async def ask() -> tuple[list[int], int]:
        async with Engine(served.home) as engine:
            pictures = engine.submit("a pear", SamplingSettings(inference_steps=6), base=base, preview_every=2)
            other = engine.submit("a plum", QUICK, base=base)
            steps = [preview.step async for preview in pictures.previews()]
            return steps, len(await pictures) + len(await other)

    assert asyncio.run(ask()) == ([2, 4], 2)


@pytest.mark.parametrize("how", ["cancel", "task"])
def test_a_canceled_request_ends(how: str, served: Shell, base: str) -> None:
    async def ask() -> None:
        async with Engine(served.home) as engine:
            pictures = engine.submit("a pear", LONG, base=base)
            if how == "cancel":
                pictures.cancel()
            else:
                task = asyncio.ensure_future(_waited(pictures))
                await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            with pytest.raises(Interrupted):
                await asyncio.to_thread(pictures.result)
            assert len(await engine.submit("a pear", QUICK, base=base)) == 1

    asyncio.run(ask())


async def _waited(pictures: Pictures) -> None:
    await pictures


def test_closing_ends_what_is_under_way(served: Shell, base: str) -> None:
    engine = Engine(served.home)
    pictures = engine.submit("a pear", LONG, base=base)
    engine.close()
    with pytest.raises(Interrupted):
        pictures.result()


@pytest.mark.parametrize(
    ("prompt", "sampling", "error"),
    [
        ("sks_nothing_here on grass", QUICK, UnknownIdentifier),
        ("an apple <lora:x>", QUICK, InvalidPrompt),
        ("an apple", SamplingSettings(scheduler="flow-match-euler"), PackshotError),
    ],
)
def test_what_cannot_be_made_is_an_error_of_that_request(
    prompt: str, sampling: SamplingSettings, error: type[Exception], engine: Engine, base: str
) -> None:
    with pytest.raises(error):
        engine.submit(prompt, sampling, base=base).result()
    assert len(engine.submit("an apple", QUICK, base=base).result()) == 1


def test_pictures_begin_from_a_layout(served: Shell, engine: Engine, base: str, tmp_path: Path) -> None:
    photo = next((ROOT / "src/packshot/embedded/catalog" / CATEGORY).glob("*.jpg"))
    sampling = SamplingSettings(inference_steps=6, strength=0.5)
    (near,) = engine.submit("a pear", sampling, base=base, layout=photo.read_bytes()).result()
    (free,) = engine.submit("a pear", sampling, base=base).result()
    assert near.image.sha256 != free.image.sha256
    recipe = read_recipe(near.png)
    assert recipe
    assert recipe["strength"] == 0.5
    options = ("--base", base, "--steps", 6, "--strength", 0.5, "--json")
    made = served("generate", "a pear", "--layout", photo, *options).json
    assert made["images"][0]["sha256"] == near.image.sha256
    (tmp_path / "broken.png").write_bytes(b"no picture")
    for wrong, code in (("broken.png", 1), ("missing.png", 2)):
        assert wrong in served("generate", "a pear", "--layout", tmp_path / wrong, *options, code=code).err


def test_the_scheduler_is_chosen_at_the_command_line(new_shell: Callable[..., Shell], base: str) -> None:
    shell = new_shell()
    options = ("--base", base, "--steps", 3, "--json")
    made = [shell("generate", "a pear", *options, "--scheduler", name).json for name in ("", "ddim", "euler")]
    assert len({each["images"][0]["sha256"] for each in made}) == 3
    refused = shell("generate", "a pear", *options, "--scheduler", "heun", code=2)
    assert "take one of ddim" in refused.err


def test_a_setting_says_which_floats_pictures_are_made_with(served: Shell, tmp_path: Path) -> None:
    pictures = list[np.ndarray]()
    for floats in ("no", "bf16"):
        shell = Shell(served.home, {**served.env, "PACKSHOT_MIXED_PRECISION": floats})
        shell("generate", "a sks_honeycrisp_apple", "--steps", 3, "--seed", 5, "--out", tmp_path / floats)
        (path,) = (tmp_path / floats).glob("*.png")
        pictures.append(np.asarray(Image.open(path), dtype=float))
    assert 0 < np.abs(pictures[0] - pictures[1]).mean() < 4


def test_floats_that_do_not_exist_are_refused(served: Shell) -> None:
    shell = Shell(served.home, {**served.env, "PACKSHOT_MIXED_PRECISION": "fp8"})
    assert "PACKSHOT_MIXED_PRECISION" in shell("generate", "a sks_honeycrisp_apple", code=2).err
