"""A workspace on disk with a tiny base and categories that serve, made without a training. Breaks nothing."""

import io
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from fixtures_mixtures import fine_tune
from fixtures_pipelines import RESOLUTION, Studio, save_pipeline
from PIL import Image

from packshot.bootstrap import Workspace
from packshot.domain.catalog import Category
from packshot.domain.generation import SamplingSettings
from packshot.domain.models import Artifact, BaseModelRef, ExportFormat, FineTune, Import
from packshot.domain.training_choices import Method
from packshot.imaging.recipe import read_recipe
from packshot.services.catalog import add_category, new_id
from packshot.services.models import promote, register_base
from packshot.services.training import WEIGHTS

QUICK_SAMPLING = SamplingSettings(inference_steps=1, guidance_scale=2.0, width=RESOLUTION, height=RESOLUTION)


@dataclass(frozen=True, kw_only=True)
class Product:
    """A category and its versions, the last of which serves."""

    category: Category
    versions: tuple[FineTune, ...]

    @property
    def prompt(self) -> str:
        return f"{self.category.identifier} on grass"


class Catalog:
    """Categories ``0`` to ``num_products - 1`` in ``space``, each of one method in turn, with random weights."""

    def __init__(self, space: Workspace, num_products: int, *, num_versions: int = 2) -> None:
        self.space = space
        self._studio = Studio(save_pipeline(space.home / "tiny-base"))
        self.base: BaseModelRef = register_base(space.records, space.bases.describe(str(self._studio.folder)))
        self.products = tuple(self._product(number, num_versions) for number in range(num_products))

    def _product(self, number: int, num_versions: int) -> Product:
        records = self.space.records
        category = add_category(records, path=f"apple/kind-{number}", class_noun="apple")
        method = list(Method)[number % len(Method)]
        versions = tuple(
            self._published(category, method, version, seed=number * num_versions + version)
            for version in range(1, num_versions + 1)
        )
        for version in versions:
            promote(records, version, reason="a test")
        return Product(category=category, versions=versions)

    def _published(self, category: Category, method: Method, version: int, *, seed: int) -> FineTune:
        made = fine_tune(self._studio, method, seed)
        weights = made.read()
        stored = Artifact(name=WEIGHTS, sha256=self.space.blobs.put(weights), num_bytes=len(weights))
        published = replace(
            made.record,
            id=new_id("ft"),
            category_id=category.id,
            version=version,
            training_run_id=None,
            imported=Import(layout=ExportFormat.SAFETENSORS, files=()),
            base_id=self.base.id,
            artifacts=(stored,),
        )
        self.space.records.add(published)
        return published

    def file_of(self, version: FineTune) -> Path:
        """Where its weights are stored."""
        sha256 = digest_of(version)
        return self.space.home / "blobs" / sha256[:2] / sha256[2:4] / sha256


def digest_of(version: FineTune) -> str:
    return version.artifact(WEIGHTS).sha256


def told_digest(png: bytes) -> str:
    """The digest of the fine-tune that a picture says it was made with."""
    recipe = read_recipe(png)
    return str((recipe or {}).get("fine_tune_digest"))


def differs(one: bytes, other: bytes) -> int:
    """The largest difference of two pictures, in grey levels."""
    left, right = (np.asarray(Image.open(io.BytesIO(png)), dtype=np.int16) for png in (one, other))
    return int(np.abs(left - right).max())
