"""Measures what fine-tunes at the shipped defaults do on the bundled base, by networks that the base never saw.

For every category of the sample catalog, and for real varieties of the store photos: how often its pictures are told
right among its rivals, how often they show the scene, fidelity beside that of real photos, how far the plain class drifts
with and without prior preservation, and the time. Categories that are in the report already are left alone.
"""

import argparse
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from training.check_network import CheckNetwork, Probe, share
from training.corpus import read_corpus
from training.learning import learn
from training.pictures import load_rgb, read_photos, write_sheet
from training.settings import grocery_folder, section, work_folder

from packshot.bootstrap import Workspace, code_revision, create_workspace
from packshot.domain.evaluation import SCENES
from packshot.domain.generation import SamplingSettings
from packshot.domain.jobs import Job
from packshot.domain.models import EMBEDDED_BASE, FineTune
from packshot.domain.presets import parse_config
from packshot.domain.references import ReferenceImage
from packshot.domain.training_prompts import with_article
from packshot.embedded import CATALOG_FOLDER
from packshot.services.artifacts import load_fine_tune
from packshot.services.demo import (
    DemoCategory,
    DemoModels,
    DemoResult,
    photo_categories,
    run_demo,
    sample_categories,
)
from packshot.services.evaluation import Suite
from packshot.services.jobs import never_stop, no_report
from packshot.services.models import register_base
from packshot.settings import Settings

PER_SCENE = 5
STORE = ("in a grocery store",)
SIZE = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="", help="measure the categories whose path contains this")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    folder = work_folder() / "fine_tunes"
    path = folder / "report.json"
    network = trained_network()
    # Two workspaces, for a real variety may have the name of an invented one.
    with (
        create_workspace(Settings(home=folder / "workspace")) as invented,
        create_workspace(Settings(home=folder / "real")) as real,
    ):
        report = json.loads(path.read_text()) if path.is_file() else {}
        samples, others = sample_categories(CATALOG_FOLDER), sample_categories(work_folder() / "rivals")
        if not others:
            raise FileNotFoundError("run 01_render.py --rivals first: any steak is the nearest to the only steak")
        measure = Bench(invented, network, folder).sample
        tasks = [(measure, [each, *(other for other in [*samples, *others] if other != each)]) for each in samples]
        measure = Bench(real, network, folder).real
        tasks += [(measure, categories) for categories in real_categories()]
        for measure, categories in tasks:
            name = categories[0].path
            if name not in report and arguments.only in name:
                report[name] = measure(categories)
                path.write_text(json.dumps(report, indent=1))
                print(name, json.dumps(report[name]), flush=True)


def trained_network() -> CheckNetwork:
    """The network as 07_check.py left it."""
    network = CheckNetwork(read_corpus(work_folder() / "corpus"), section("check"))
    if not (work_folder() / "check/checkpoint.safetensors").is_file():
        raise FileNotFoundError("run 07_check.py first")
    learn(network, work_folder() / "check", 0.0, section("seed"), minutes=0.0, steps=None)
    return network


def real_categories() -> list[list[DemoCategory]]:
    """The varieties that no program trained on, each with its rivals of the same class behind it."""
    first = {photo.variety: photo for photo in reversed(read_photos(grocery_folder()))}
    photos = [first[name] for name in section("check")["real_varieties"]]
    return [photo_categories(photo.path.parent, photo.class_name.replace("-", " ")) for photo in photos]


class Bench:
    """Trains, has pictures made, and counts."""

    def __init__(self, space: Workspace, network: CheckNetwork, folder: Path) -> None:
        described = space.bases.describe(EMBEDDED_BASE)
        self.space, self.network, self.folder, self.resolution = space, network, folder, described.resolution
        self.models = DemoModels(
            records=space.records, blobs=space.blobs, generator=space.generator, judge=space.judge,
            base=register_base(space.records, described), handlers=space.handlers, tidy=space.tidy, lease=space.lease,
            code_revision=code_revision(), namespace=space.settings.namespace,
        )  # fmt: skip

    def sample(self, categories: list[DemoCategory]) -> dict:
        """The figures of a sample category, the others of its class, of the catalog and beside it, being its rivals."""
        result = self.run(categories, {})
        free = self.run(
            categories, {"prior_weight": 0}, per_scene=1
        )  # for its drift alone, which scenes have no part in
        pictures, bare = self.pictures(result, result.fine_tune), self.pictures(result, None)
        write_sheet(self.sheet(categories[0]), [bare[::PER_SCENE], pictures[::PER_SCENE]])
        return self.common(result) | {
            "relative_fidelity": result.evaluation.fine_tune.subject_fidelity / result.evaluation.real_fidelity,
            "scene": self.scenes_right(pictures),
            "scene_base": self.scenes_right(bare),
            "drift_without_prior": free.evaluation.fine_tune.prior_drift,
        }

    def real(self, categories: list[DemoCategory]) -> dict:
        """The figures of a real variety, by a probe fitted on photos of it and of its rivals.

        The photos are of a store, so the pictures that are compared with them show a store too; those of the scenes
        are counted beside them.
        """
        result = self.run(categories, {})
        seen = {each.file_name for each in self.space.records.find(ReferenceImage, category_id=result.category.id)}
        photos = {each.path: {path.name: load_rgb(path, SIZE) for path in sorted(each.folder.glob("*.jpg"))}
                  for each in categories}  # fmt: skip
        path = categories[0].path
        unseen = np.stack([picture for name, picture in photos[path].items() if name not in seen])
        photos[path] = {name: picture for name, picture in photos[path].items() if name in seen}
        probe = Probe(self.network, {name: np.stack(list(shown.values())) for name, shown in photos.items()})
        pictures, bare = (
            self.pictures(result, who, STORE, len(SCENES) * PER_SCENE) for who in (result.fine_tune, None)
        )
        scenes = self.pictures(result, result.fine_tune)
        write_sheet(self.sheet(categories[0]), [
            each[:: max(1, len(each) // len(SCENES))][: len(SCENES)] for each in (unseen, bare, pictures, scenes)
        ])  # fmt: skip
        shown = {"probe": pictures, "probe_base": bare, "probe_scenes": scenes, "probe_photos": unseen}
        return self.common(result) | {name: share(probe.say(each), [path] * len(each)) for name, each in shown.items()}

    def run(
        self, categories: list[DemoCategory], values: Mapping[str, object], per_scene: int = PER_SCENE
    ) -> DemoResult:
        """A fine-tune of the first category at the defaults but for `values`."""
        return run_demo(
            self.models, categories, parse_config(values, base_resolution=self.resolution),
            Suite(images_per_scene=per_scene), report=no_report, watch=lambda _: None, skip=lambda *_: None,
            stop=never_stop,
        )  # fmt: skip

    def sheet(self, category: DemoCategory) -> Path:
        return self.folder / f"{category.path.replace('/', '-')}.png"

    def common(self, result: DemoResult) -> dict:
        """What is measured of samples and real varieties alike; the training's seconds have those of new class images in them."""
        evaluation = result.evaluation
        return {
            "seconds": self.seconds(result.fine_tune),
            "nearest": evaluation.fine_tune.nearest_category_accuracy,
            "nearest_base": evaluation.base.nearest_category_accuracy,
            "drift": evaluation.fine_tune.prior_drift,
            "verdict": evaluation.verdict.outcome,
        }

    def seconds(self, fine_tune: FineTune) -> float | None:
        """From the order of the training, which began at once, to its end; None of one that was interrupted."""
        (job,) = self.space.records.find(Job, subject_id=fine_tune.training_run_id)
        return None if job.attempt > 1 else round((job.finished_at - job.created_at).total_seconds(), 1)

    def pictures(self, result: DemoResult, fine_tune: FineTune | None, scenes: Sequence[str] = SCENES,
                 each: int = PER_SCENE) -> np.ndarray:  # fmt: skip
        """uint8 (scenes * each, 128, 128, 3) of the fine-tune, or of the bare base."""
        subject = f"a {fine_tune.trained_phrase}" if fine_tune else with_article(result.category.class_noun)
        pngs = self.space.generator.generate(
            self.models.base, fine_tune and load_fine_tune(self.space.records, self.space.blobs, fine_tune),
            [f"a photo of {subject} {scene}" for scene in scenes],
            SamplingSettings(seed=5000, num_images=each), report=no_report,
        )  # fmt: skip
        return np.stack([np.asarray(Image.open(io.BytesIO(png)).convert("RGB")) for png in pngs])

    def scenes_right(self, pictures: np.ndarray) -> float:
        """Share of the pictures whose scene the check network names right."""
        asked = [scene.split(" ", 1)[1].split(",")[0] for scene in SCENES for _ in range(PER_SCENE)]
        return share(self.network.answer(pictures)["scene"], asked)


if __name__ == "__main__":
    main()
