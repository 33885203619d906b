"""Trains the bundled judge: an image embedder that tells varieties apart, and a small CLIP that reads scene prompts.

The embedder is a ResNet under a normalised softmax over the training varieties (Wang et al. 2018, CosFace); products are
moved to other grounds, cut out on grey and softened, so that neither the scene nor the sharpness of a picture decides. The
CLIP (Radford et al. 2021) learns from the corpus's captions. Both see 128 x 128 pictures and load through transformers.
Does not know the base: no picture that it judges was seen here.
"""

import argparse
import io
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from studio.captions import plain
from torch import Tensor, nn
from torch.nn import functional
from training.augmentation import SIZE, Pictures, to_tensor
from training.corpus import Corpus, read_corpus
from training.learning import learn
from training.pictures import load_rgb, write_sheet
from training.run import autocast
from training.settings import section, work_folder
from training.words import make_tokenizer, save_tokenizer
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer, PreTrainedModel, ResNetConfig, ResNetModel

from packshot.judging.cutout import cut_out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=12.0, help="training time of each model over all sessions")
    parser.add_argument("--steps", type=int, help="end each model after so many steps, if they are reached first")
    parser.add_argument("--only", choices=["embedder", "clip"], help="train one of the two")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.set_flush_denormal(True)
    settings, seed, work = section("judge"), section("seed"), work_folder()
    corpus = read_corpus(work / "corpus")
    for name, objective in (("embedder", EmbedderObjective), ("clip", ClipObjective)):
        if arguments.only in (None, name):
            torch.manual_seed(seed)
            made = objective(corpus, settings[name])
            rate = settings[name]["learning_rate"]
            learn(made, work / "judge" / f"{name}_run", rate, seed, arguments.minutes, arguments.steps)
            made.save(work / "judge" / name)
    report(corpus, work / "judge")


class EmbedderObjective:
    """Which variety is it? Additive-margin softmax over unit vectors."""

    def __init__(self, corpus: Corpus, settings: dict) -> None:
        self.settings = settings
        names = [f"{row['source']}/{row['class']}/{row['variety']}" for row in corpus.rows]
        indices = corpus.indices("train")
        classes = {name: k for k, name in enumerate(sorted({names[i] for i in indices}))}
        self.labels = torch.tensor([classes.get(name, -1) for name in names])
        self.model = ResNetModel(ResNetConfig(
            embedding_size=settings["widths"][0], hidden_sizes=settings["widths"], depths=settings["depths"],
            layer_type="basic",
        ))  # fmt: skip
        self.head = nn.Linear(settings["widths"][-1], len(classes), bias=False)
        self.modules = {"model": self.model, "head": self.head}
        self.batches = Pictures(corpus, indices, settings["batch"], seen_alone=settings["seen_alone"],
                                moved=settings["moved"])  # fmt: skip

    def loss(self, generator: np.random.Generator) -> Tensor:
        chosen, _, pictures = self.batches.draw(generator)
        labels = self.labels[chosen]
        with autocast():
            features = self.model(pixel_values=pictures).pooler_output.flatten(1)
        cosines = functional.normalize(features.float()) @ functional.normalize(self.head.weight).T
        margin = functional.one_hot(labels, len(self.head.weight)) * self.settings["margin"]
        return functional.cross_entropy(self.settings["scale"] * (cosines - margin), labels)

    def save(self, folder: Path) -> None:
        save_model(self.model, folder, "ViTImageProcessor")


class ClipObjective:
    """Which caption belongs to which picture? Captions of equal words count as equally right."""

    def __init__(self, corpus: Corpus, settings: dict) -> None:
        self.tokenizer = make_tokenizer(corpus, work_folder() / "base_run/tokenizer")
        self.model = build_clip(settings, self.tokenizer)
        self.modules = {"model": self.model}
        self.captions = [row["captions"] for row in corpus.rows]
        self.batches = Pictures(corpus, corpus.indices("train"), settings["batch"])

    def loss(self, generator: np.random.Generator) -> Tensor:
        chosen, _, pictures = self.batches.draw(generator)
        texts = [self.captions[i][generator.integers(len(self.captions[i]))] for i in chosen]
        ids = torch.tensor(self.tokenizer(texts, padding="max_length", truncation=True)["input_ids"])
        with autocast():
            output = self.model(input_ids=ids, pixel_values=pictures)
        same = torch.tensor([[float(one == other) for other in texts] for one in texts])
        target, logits = same / same.sum(1, keepdim=True), output.logits_per_image.float()
        return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2

    def save(self, folder: Path) -> None:
        save_model(self.model, folder, "CLIPImageProcessor")
        save_tokenizer(self.tokenizer, folder)


def build_clip(settings: dict, tokenizer: CLIPTokenizer) -> CLIPModel:
    text, vision = settings["text_hidden"], settings["vision_hidden"]
    return CLIPModel(CLIPConfig(
        text_config={
            "vocab_size": len(tokenizer), "hidden_size": text, "intermediate_size": 4 * text,
            "num_hidden_layers": settings["text_layers"], "num_attention_heads": text // 32,
            "max_position_embeddings": tokenizer.model_max_length, "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            "hidden_size": vision, "intermediate_size": 4 * vision, "num_hidden_layers": settings["vision_layers"],
            "num_attention_heads": vision // 32, "image_size": SIZE, "patch_size": settings["patch"],
        },
        projection_dim=text,
    ))  # fmt: skip


def save_model(model: PreTrainedModel, folder: Path, processor: str) -> None:
    """The model with what prepares its pictures: scaled to 128 x 128, to -1..1."""
    model.save_pretrained(folder, safe_serialization=True)
    size = {"height": SIZE, "width": SIZE}
    settings = {
        "image_processor_type": processor, "do_resize": True, "size": size, "do_center_crop": False, "resample": 3,
        "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(settings, indent=2) + "\n")


@torch.inference_mode()
def embed(model: ResNetModel, pictures: np.ndarray) -> np.ndarray:
    """(count, features) of unit length for uint8 pictures."""
    parts = []
    for start in range(0, len(pictures), 64):
        features = model(pixel_values=to_tensor(pictures[start : start + 64])).pooler_output.flatten(1)
        parts.append(functional.normalize(features).numpy())
    return np.concatenate(parts)


def report(corpus: Corpus, folder: Path) -> None:
    """Figures on what no training saw: held-out real varieties, and scenes of validation renders."""
    figures = {}
    if (folder / "embedder").is_dir():
        embedder = ResNetModel.from_pretrained(folder / "embedder").eval()
        figures |= variety_accuracy(embedder, corpus, folder)
        if (work_folder() / "held-out").is_dir():
            figures["distractors"] = distractor_accuracy(embedder, corpus, work_folder() / "held-out")
    if (folder / "clip").is_dir():
        figures |= scene_accuracy(folder / "clip", corpus)
    (folder / "report.json").write_text(json.dumps(figures, indent=1))
    print(figures, flush=True)


def variety_accuracy(model: ResNetModel, corpus: Corpus, folder: Path, references: int = 12) -> dict[str, float]:
    """Share of held-out photos nearest to the centroid of their own variety's first 12, among the held-out varieties and
    the training varieties of the same classes, and a sheet of those that were not."""
    wanted = {row["class"] for row in corpus.rows if row["split"] == "held-out"}
    names = [f"{row['class']}/{row['variety']}" for row in corpus.rows]
    members: dict[str, list[int]] = {}
    for i, row in enumerate(corpus.rows):
        if row["source"] == "photo" and row["class"] in wanted:
            members.setdefault(names[i], []).append(i)
    centroids = {name: embed(model, corpus.images[found[:references]]).mean(0) for name, found in members.items()}
    matrix = np.stack([centroid / np.linalg.norm(centroid) for centroid in centroids.values()])
    unseen = {names[i] for i, row in enumerate(corpus.rows) if row["split"] == "held-out"}
    right, within, wrong = [], [], []
    for name in sorted(unseen):
        queries = members[name][references:]
        similarities = embed(model, corpus.images[queries]) @ matrix.T
        rivals = [k for k, other in enumerate(centroids) if other.split("/")[0] == name.split("/")[0]]
        order = list(centroids)
        right += [order[k] == name for k in similarities.argmax(1)]
        within += [order[rivals[k]] == name for k in similarities[:, rivals].argmax(1)]
        wrong += [q for q, k in zip(queries, similarities.argmax(1), strict=True) if order[k] != name]
    if wrong:
        write_sheet(folder / "sheet.png", [[corpus.images[i] for i in wrong[at : at + 12]] for at in range(0, min(len(wrong), 48), 12)])  # fmt: skip
    return {"unseen_photos": len(right), "choices": len(centroids), "top_1": round(float(np.mean(right)), 4),
            "top_1_within_class": round(float(np.mean(within)), 4)}  # fmt: skip


def distractor_accuracy(model: ResNetModel, corpus: Corpus, folder: Path) -> dict[str, float]:
    """Does a product look more like itself in another scene than like another variety of its class in its own scene?

    Over all such pairs of renders of held-out varieties, where the other variety is any that the corpus shows alone in
    that scene; for whole pictures, and for products cut out on grey by their masks as the platform does it.
    """
    rows = [json.loads(line) for line in (folder / "held-out.jsonl").read_text().splitlines()]
    pictures = np.stack([load_rgb(folder / row["file_name"], SIZE) for row in rows])
    masks = np.stack([np.asarray(Image.open(folder / row["mask"]).convert("L").resize((SIZE, SIZE))) for row in rows])
    rivals = [i for i in corpus.indices("validation", "render") if corpus.rows[i]["count"] == 1]
    right: dict[str, list[bool]] = {"whole": [], "masked": []}
    for name, cut in (("whole", lambda picture, _: picture), ("masked", alone)):
        own = embed(model, np.stack([cut(*each) for each in zip(pictures, masks, strict=True)]))
        others = embed(
            model, np.stack([cut(np.asarray(corpus.images[i]), np.asarray(corpus.masks[i])) for i in rivals])
        )
        for k, row in enumerate(rows):
            kin = [
                j
                for j, other in enumerate(rows)
                if other["variety"] == row["variety"]
                and other["class"] == row["class"]
                and other["scene"] != row["scene"]
            ]
            foes = [
                j
                for j, i in enumerate(rivals)
                if corpus.rows[i]["class"] == row["class"] and corpus.rows[i]["scene"] == row["scene"]
            ]
            right[name] += [bool(like > unlike) for like in own[kin] @ own[k] for unlike in others[foes] @ own[k]]  # fmt: skip
    return {"pairs": len(right["whole"])} | {name: round(float(np.mean(each)), 4) for name, each in right.items()}


def alone(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The product on grey as the platform's judge sees it; uint8 (128, 128, 3) with its mask (128, 128) to the same."""
    png = io.BytesIO()
    Image.fromarray(mask).save(png, "PNG")
    return np.asarray(cut_out(Image.fromarray(picture), png.getvalue()).resize((SIZE, SIZE), Image.Resampling.BICUBIC))


@torch.inference_mode()
def scene_accuracy(folder: Path, corpus: Corpus) -> dict[str, float]:
    """Share of validation renders of one piece whose own caption beats that of every other scene."""
    model, tokenizer = CLIPModel.from_pretrained(folder).eval(), CLIPTokenizer.from_pretrained(folder)
    chosen = [i for i in corpus.indices("validation", "render") if corpus.rows[i]["count"] == 1]
    scenes = sorted({corpus.rows[i]["scene"] for i in chosen})
    right = []
    for i in chosen:
        row = corpus.rows[i]
        texts = [plain(row["class"], scene, row["light"], 1) for scene in scenes]
        ids = torch.tensor(tokenizer(texts, padding="max_length", truncation=True)["input_ids"])
        scores = model(input_ids=ids, pixel_values=to_tensor(corpus.images[i : i + 1])).logits_per_image[0]
        right.append(scenes[int(scores.argmax())] == row["scene"])
    return {"scene_pictures": len(right), "scene_accuracy": round(float(np.mean(right)), 4)}


if __name__ == "__main__":
    main()
