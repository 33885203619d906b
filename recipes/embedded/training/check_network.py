"""A network that tells what a picture shows, used only to check the bundled base (07_check, 08_fine_tunes).

Knows the corpus; does not know the judge, which it is independent of.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import ResNetConfig, ResNetModel

from training.augmentation import Pictures, to_tensor
from training.corpus import Corpus
from training.run import autocast

QUESTIONS = ("class", "scene", "light", "count")


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
        self.batches = Pictures(
            corpus, train, settings["batch"], moved=settings["moved"], strange=True, keep_tone=True,
            smallest_crop=0.94,
        )  # fmt: skip

    def loss(self, generator: np.random.Generator) -> Tensor:
        chosen, behind, pictures = self.batches.draw(generator)
        moved = torch.from_numpy(chosen != behind)
        labels = {name: known[chosen].masked_fill(moved, -1) for name, known in self.labels.items()}
        labels["scene"] = self.labels["scene"][behind]
        with autocast():
            features = self.model(pixel_values=pictures).pooler_output.flatten(1)
        features = functional.dropout(features.float(), 0.2, training=True)
        return torch.stack([
            functional.cross_entropy(head(features), labels[name], ignore_index=-1)
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

    def scenes_behind(self, products: np.ndarray, masks: np.ndarray) -> float:
        """Share of right scenes where products, uint8 pictures cut out by masks in 0..1, lie over the validation renders, in turns."""
        chosen = self.corpus.indices("validation", "render")
        turns = np.arange(len(chosen)) % len(products)
        cut = masks[turns][..., None]
        shown = products[turns] * cut + self.corpus.images[chosen] * (1 - cut)
        said = self.answer(shown.round().astype(np.uint8))["scene"]
        return share(said, [self.corpus.rows[i]["scene"] for i in chosen])


class Probe:
    """A ridge classifier of a few named groups of pictures, on the network's features of unit length."""

    def __init__(self, network: CheckNetwork, groups: Mapping[str, np.ndarray], ridge: float = 0.01) -> None:
        self.network, self.names = network, list(groups)
        features = torch.cat([functional.normalize(network.features(group)) for group in groups.values()]).double()
        owners = torch.cat([torch.full((len(group),), k) for k, group in enumerate(groups.values())])
        targets = functional.one_hot(owners).double()
        gram = features.T @ features + ridge * torch.eye(features.shape[1], dtype=torch.double)
        self.weights = torch.linalg.solve(gram, features.T @ targets)

    def say(self, pictures: np.ndarray) -> list[str]:
        """The name of the group that each of the uint8 pictures belongs to most."""
        scores = functional.normalize(self.network.features(pictures)).double() @ self.weights
        return [self.names[k] for k in scores.argmax(1).tolist()]


def share(said: list[str], right: list[str]) -> float:
    """Share of equal answers."""
    return round(float(np.mean([one == other for one, other in zip(said, right, strict=True)])), 4)
