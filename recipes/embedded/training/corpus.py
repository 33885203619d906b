"""The merged corpus as arrays and rows.

Knows the files that 02_corpus.py writes; does not know how they were made.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """images uint8 (count, 128, 128, 3), masks uint8 (count, 128, 128), rows in the same order."""

    images: np.ndarray
    masks: np.ndarray
    rows: list[dict]

    def indices(self, split: str, source: str | None = None) -> np.ndarray:
        """Positions of the pictures of a split (train, validation, held-out) and source (render, photo)."""
        chosen = [i for i, row in enumerate(self.rows) if row["split"] == split and source in (None, row["source"])]
        return np.array(chosen, dtype=np.int64)


def read_corpus(folder: Path) -> Corpus:
    """Opens the corpus; the arrays stay on disk."""
    if not (folder / "index.jsonl").is_file():
        raise FileNotFoundError(f"no corpus at {folder}: run 02_corpus.py first")
    rows = [json.loads(line) for line in (folder / "index.jsonl").read_text().splitlines()]
    images, masks = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("images", "masks"))
    if not len(images) == len(masks) == len(rows):
        raise ValueError(f"{folder} is torn ({len(images)} images, {len(rows)} rows): run 02_corpus.py again")
    return Corpus(images=images, masks=masks, rows=rows)
