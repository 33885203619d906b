"""Measures the bundled base with a network of its own, which nothing else uses: does a picture show what was asked for?

The network learns class, scene, light and count from the corpus. Its figures: itself on validation renders; the base's
pictures of random prompts; and real photos of unseen varieties, untouched and through the autoencoder, told apart by a
probe fitted on photos alone. Does not know the judge.
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
from torch import Tensor, nn
from torch.nn import functional
from training.augmentation import Pictures, to_tensor
from training.corpus import Corpus, read_corpus
from training.learning import learn
from training.pictures import write_sheet
from training.run import autocast
from training.settings import section, work_folder
from transformers import ResNetConfig, ResNetModel

QUESTIONS = ("class", "scene", "light", "count")
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
    figures = {"validation renders": network.renders_right()}
    if (work / "autoencoder/vae").is_dir():
        figures["real varieties"] = probe_through_autoencoder(network, work / "autoencoder/vae")
    if (work / "base").is_dir():
        figures["base"] = check_base(network, work / "base", arguments.samples, seed, work / "check/sheet.png")
    (work / "check/report.json").write_text(json.dumps(figures, indent=1))
    print(json.dumps(figures, indent=1))


class CheckNetwork:
    """A ResNet with one answer to each question, and one to "which variety?" that makes its features useful to a probe."""

    def __init__(self, corpus: Corpus, settings: dict) -> None:
        self.corpus = corpus
        self.model = ResNetModel(ResNetConfig(
            embedding_size=settings["widths"][0], hidden_sizes=settings["widths"], depths=settings["depths"],
            layer_type="basic",
        ))  # fmt: skip
        train, renders = corpus.indices("train"), corpus.indices("train", "render")
        self.answers = {name: sorted({str(corpus.rows[i][name]) for i in renders}) for name in QUESTIONS}
        names = [f"{row['source']}/{row['class']}/{row['variety']}" for row in corpus.rows]
        self.answers["variety"] = sorted({names[i] for i in train})
        self.labels = {}
        for name, known in self.answers.items():
            place = {answer: k for k, answer in enumerate(known)}
            given = names if name == "variety" else [str(row[name]) for row in corpus.rows]
            known_rows = [name in ("class", "variety") or row["source"] == "render" for row in corpus.rows]
            self.labels[name] = torch.tensor(
                [place.get(answer, -1) if known else -1 for answer, known in zip(given, known_rows, strict=True)]
            )
        self.heads = nn.ModuleDict(
            {name: nn.Linear(settings["widths"][-1], len(a)) for name, a in self.answers.items()}
        )
        self.modules = {"model": self.model, "heads": self.heads}
        # Whole pictures of unchanged tone: a crop would lose pieces that are counted, another tone the light.
        self.batches = Pictures(corpus, train, settings["batch"], keep_tone=True, smallest_crop=0.94)

    def loss(self, generator: np.random.Generator) -> Tensor:
        chosen, pictures = self.batches.draw(generator)
        with autocast():
            features = self.model(pixel_values=pictures).pooler_output.flatten(1)
        features = functional.dropout(features.float(), 0.2, training=True)
        return torch.stack([
            functional.cross_entropy(head(features), self.labels[name][chosen], ignore_index=-1)
            for name, head in self.heads.items()
        ]).sum()  # fmt: skip

    @torch.inference_mode()
    def features(self, pictures: np.ndarray) -> Tensor:
        """(count, features) of uint8 pictures."""
        starts = range(0, len(pictures), 64)
        parts = [self.model(pixel_values=to_tensor(pictures[k : k + 64])).pooler_output.flatten(1) for k in starts]
        return torch.cat(parts)

    @torch.inference_mode()
    def answer(self, pictures: np.ndarray) -> dict[str, list[str]]:
        features = self.features(pictures)
        return {
            name: [self.answers[name][k] for k in self.heads[name](features).argmax(1).tolist()] for name in QUESTIONS
        }

    def renders_right(self) -> dict[str, float]:
        chosen = self.corpus.indices("validation", "render")
        said = self.answer(self.corpus.images[chosen])
        return {"pictures": len(chosen)} | {
            name: share(said[name], [str(self.corpus.rows[i][name]) for i in chosen]) for name in QUESTIONS
        }


def share(said: list[str], right: list[str]) -> float:
    """Share of equal answers."""
    return round(float(np.mean([one == other for one, other in zip(said, right, strict=True)])), 4)


def probe_through_autoencoder(network: CheckNetwork, folder: Path) -> dict[str, float]:
    """A ridge classifier on 12 photos of each unseen variety; how often it is right on the others, before and after."""
    rows = network.corpus.rows
    members: dict[str, list[int]] = {}
    for i in network.corpus.indices("held-out", "photo"):
        members.setdefault(rows[i]["variety"], []).append(i)
    train = [(i, k) for k, name in enumerate(sorted(members)) for i in members[name][:PROBE_REFERENCES]]
    test = [(i, k) for k, name in enumerate(sorted(members)) for i in members[name][PROBE_REFERENCES:]]
    pictures = network.corpus.images[[i for i, _ in test]]
    features = functional.normalize(network.features(network.corpus.images[[i for i, _ in train]])).double()
    targets = functional.one_hot(torch.tensor([k for _, k in train])).double()
    gram = features.T @ features + 0.01 * torch.eye(features.shape[1], dtype=torch.double)
    weights = torch.linalg.solve(gram, features.T @ targets)
    labels = torch.tensor([k for _, k in test])

    def right(shown: np.ndarray) -> float:
        scores = functional.normalize(network.features(shown)).double() @ weights
        return round((scores.argmax(1) == labels).double().mean().item(), 4)

    untouched, passed = right(pictures), right(through(folder, pictures))
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
