"""The recipe's programs from corpus to base, one step each on a few drawn pictures, resumed as after an interruption."""

import json
import runpy
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image, ImageDraw

from packshot.embedded.bundle import bundled_base

RECIPE = Path(__file__).parents[2] / "recipes" / "embedded"
Program = Callable[..., dict[str, object]]


def drawn(path: Path, size: int, number: int) -> None:
    """A disc on a ground with noise, so that there are details to learn."""
    generator = np.random.default_rng(number)
    image = Image.fromarray(generator.integers(90, 160, (size, size, 3), dtype=np.uint8))
    box = sorted(generator.integers(0, size, 2)), sorted(generator.integers(0, size, 2))
    ImageDraw.Draw(image).ellipse(
        [box[0][0], box[1][0], box[0][1], box[1][1]], tuple(generator.integers(0, 255, 3).tolist())
    )
    image.save(path)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder with renders, and beside it store photos, as 01_render.py and the data set leave them."""
    work = tmp_path_factory.mktemp("recipe")
    (work / "renders").mkdir()
    with (work / "renders.jsonl").open("w") as index:
        for number in range(26):
            name = f"{number:06}.png"
            drawn(work / "renders" / name, 128, number)
            index.write(json.dumps({
                "file_name": name, "mask": f"{number:06}_mask.png", "department": "produce", "class": "apple", "variety": "round",
                "scene": "a wooden table", "light": "cool light", "count": 1, "captions": ["a photo of an apple on a wooden table"],
            }) + "\n")  # fmt: skip
    (work / "photos").mkdir()
    with (work / "photos/metadata.jsonl").open("w") as index:
        for number, variety in enumerate(["granny-smith"] * 11 + ["pink-lady"] * 2):
            drawn(work / f"photos/{number}.jpg", 256, 100 + number)
            row = {"file_name": f"{number}.jpg", "department": "produce", "class": "apple", "variety": variety}
            index.write(json.dumps(row) + "\n")
    return work


@pytest.fixture
def program(work: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    """Runs a program of the recipe with arguments, and gives its names."""
    monkeypatch.setenv("PACKSHOT_RECIPE_WORK", str(work))
    monkeypatch.setenv("PACKSHOT_GROCERY", str(work / "photos"))
    monkeypatch.syspath_prepend(RECIPE)
    handlers = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}

    def run(name: str, *arguments: str, run_name: str = "__main__") -> dict[str, object]:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        return runpy.run_path(str(RECIPE / name), run_name=run_name)

    yield run
    for each, handler in handlers.items():
        signal.signal(each, handler)


def test_the_programs_make_a_base_of_a_core_and_details(work: Path, program: Program) -> None:
    program("02_corpus.py")
    rows = [json.loads(line) for line in (work / "corpus/index.jsonl").read_text().splitlines()]
    assert sum(row["split"] == "held-out" for row in rows) == 2
    assert sum(row["split"] == "validation" for row in rows) == 3

    for part, exported in (("core", "core/vae"), ("details", "autoencoder/vae")):
        program("03_autoencoder.py", part, "--threads", "1", "--steps", "1")
        assert not (work / exported).exists()
        program("03_autoencoder.py", part, "--threads", "1", "--finish-minutes", "60", "--steps", "1")
    core, both = (AutoencoderKL.from_pretrained(work / name).eval() for name in ("core/vae", "autoencoder/vae"))
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        latents, more = (each.encode(picture).latent_dist.mean for each in (core, both))
    assert more.shape[1] > latents.shape[1]
    torch.testing.assert_close(more[:, : latents.shape[1]], latents, atol=1e-4, rtol=1e-4)
    assert (work / "autoencoder/sheet.png").is_file()

    base = ("04_base.py", "--threads", "1", "--minutes", "60", "--steps")
    program(*base, "1")
    program(*base, "2")
    pipeline = StableDiffusionPipeline.from_pretrained(work / "base", local_files_only=True)
    assert pipeline.unet.config.in_channels == more.shape[1]
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    assert (work / "base_run/sheet.png").is_file()


def test_a_warm_start_goes_on_from_the_packaged_base(
    work: Path, tmp_path: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("renders", "renders.jsonl"):
        (tmp_path / name).symlink_to(work / name)
    monkeypatch.setenv("PACKSHOT_RECIPE_WORK", str(tmp_path))
    program("02_corpus.py")
    program("04_base.py", "--threads", "1", "--warm-start", "--minutes", "60", "--steps", "1")
    packaged, made = (
        UNet2DConditionModel.from_pretrained(each / "unet") for each in (bundled_base(), tmp_path / "base")
    )
    assert made.config.block_out_channels == packaged.config.block_out_channels
    for name, weights in packaged.float().state_dict().items():
        torch.testing.assert_close(made.state_dict()[name], weights, atol=1e-3, rtol=1e-3)


def test_a_decoder_learns_to_do_without_details_that_are_wrong(program: Program) -> None:
    disturbed = program("03_autoencoder.py", run_name="recipe")["disturbed"]
    settings = {"core_latents": 16, "detail_noise": 0.5, "detail_deviation": 0.25}
    latents, generator, changed = torch.ones(1, 20, 2, 2), np.random.default_rng(0), 0
    for _ in range(40):
        given = disturbed(latents, generator, settings)  # type: ignore[operator]
        assert torch.equal(given[:, :16], latents[:, :16])
        changed += not torch.equal(given, latents)
    assert 10 <= changed <= 30
