"""Measures the bundled base with a network of its own, which nothing else uses: does a picture show what was asked for?

The network learns class, scene, light and count from the corpus. Its figures: itself on validation renders, also with
products of the sample catalog, which it never saw, laid over them; the base's pictures of random prompts; and real
photos of unseen varieties, untouched and through the autoencoder, told apart by a probe fitted on photos alone.
Does not know the judge.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from rich.progress import track
from studio.captions import plain
from studio.scenes import LIGHTS, SCENES
from training.augmentation import SIZE, to_tensor
from training.check_network import QUESTIONS, CheckNetwork, Probe, share
from training.corpus import read_corpus
from training.learning import learn
from training.pictures import load_rgb, write_sheet
from training.settings import section, work_folder

from packshot.embedded import CATALOG_FOLDER
from packshot.services.demo import sample_categories

PROBE_REFERENCES = 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=8.0, help="training time over all sessions")
    parser.add_argument("--steps", type=int, help="end after so many steps, if they are reached first")
    parser.add_argument("--samples", type=int, default=400, help="pictures that the base makes")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.set_flush_denormal(True)
    settings, seed, work = section("check"), section("seed"), work_folder()
    torch.manual_seed(seed)
    corpus = read_corpus(work / "corpus")
    network = CheckNetwork(corpus, settings)
    learn(network, work / "check", settings["learning_rate"], seed, arguments.minutes, arguments.steps)
    figures = {"validation renders": network.renders_right(), "scenes behind": scenes_behind(network)}
    if (work / "autoencoder/vae").is_dir():
        figures["real varieties"] = probe_through_autoencoder(network, work / "autoencoder/vae")
    if (work / "base").is_dir():
        figures["base"] = check_base(network, work / "base", arguments.samples, seed, work / "check/sheet.png")
    (work / "check/report.json").write_text(json.dumps(figures, indent=1))
    print(json.dumps(figures, indent=1))


def scenes_behind(network: CheckNetwork) -> dict[str, float]:
    """How often the scene is named right behind the products of each category of the sample catalog."""
    found = {}
    for category in sample_categories(CATALOG_FOLDER):
        masks = sorted(category.folder.glob("*_mask.png"))
        photos = [mask.with_name(mask.name.replace("_mask.png", ".jpg")) for mask in masks]
        found[category.path] = network.scenes_behind(
            np.stack([load_rgb(photo, SIZE) for photo in photos]),
            np.stack([load_rgb(mask, SIZE)[..., 0] / 255 for mask in masks]),
        )
    return found


def probe_through_autoencoder(network: CheckNetwork, folder: Path) -> dict[str, float]:
    """How often a probe for the unseen varieties is right on photos that it was not fitted on, before and after."""
    rows = network.corpus.rows
    members: dict[str, list[int]] = {}
    for i in network.corpus.indices("held-out", "photo"):
        members.setdefault(rows[i]["variety"], []).append(i)
    probe = Probe(network, {name: network.corpus.images[found[:PROBE_REFERENCES]] for name, found in members.items()})
    test = [(i, name) for name, found in members.items() for i in found[PROBE_REFERENCES:]]
    pictures = network.corpus.images[[i for i, _ in test]]
    untouched, passed = (
        share(probe.say(shown), [name for _, name in test]) for shown in (pictures, through(folder, pictures))
    )
    return {"photos": len(test), "varieties": len(members), "untouched": untouched, "through the autoencoder": passed,
            "ratio": round(passed / untouched, 4)}  # fmt: skip


@torch.inference_mode()
def through(folder: Path, pictures: np.ndarray) -> np.ndarray:
    """uint8 pictures through the autoencoder."""
    autoencoder = AutoencoderKL.from_pretrained(folder).eval()
    parts = []
    for start in range(0, len(pictures), 32):
        latents = autoencoder.encode(to_tensor(pictures[start : start + 32])).latent_dist.mean
        decoded = autoencoder.decode(latents).sample.add(1).mul(127.5).round().clamp(0, 255).byte()
        parts.append(decoded.permute(0, 2, 3, 1).numpy())
    return np.concatenate(parts)


def check_base(network: CheckNetwork, folder: Path, samples: int, seed: int, sheet: Path) -> dict[str, float]:
    """Pictures of random prompts, as often as the corpus shows such a count, and how many show what was asked for."""
    generator = np.random.default_rng(seed)
    settings = section("base")
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    renders = [network.corpus.rows[i] for i in network.corpus.indices("validation", "render")]
    asked, pictures = [], []
    for _ in range(samples):
        row = renders[generator.integers(len(renders))]
        scene, light = SCENES[generator.integers(len(SCENES))], list(LIGHTS)[generator.integers(len(LIGHTS))]
        asked.append({"class": row["class"], "scene": scene, "light": light, "count": str(row["count"])})
    for start in track(range(0, samples, 20), "pictures of the base"):
        part = asked[start : start + 20]
        prompts = [plain(each["class"], each["scene"], each["light"], int(each["count"])) for each in part]
        made = pipeline(prompts, num_inference_steps=settings["inference_steps"], output_type="np",
                        guidance_scale=settings["guidance_scale"],
                        generator=[torch.Generator().manual_seed(seed + start + k) for k in range(len(part))]).images  # fmt: skip
        pictures.append((made * 255).round().astype(np.uint8))
    shown = np.concatenate(pictures)
    write_sheet(sheet, [shown[at : at + 16] for at in range(0, min(samples, 160), 16)])
    said = network.answer(shown)
    return {"pictures": samples} | {name: share(said[name], [each[name] for each in asked]) for name in QUESTIONS}


if __name__ == "__main__":
    main()
