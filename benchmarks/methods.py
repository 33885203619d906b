"""Benchmark 12: every method on every family; rows are named ``family / method / figure``.

On the bundled base each method trains one category of the sample catalog with the defaults that ``packshot train`` gives
it, and is measured as ``packshot evaluate`` measures. The class images, which all methods share, are made before the
clock starts. On tiny pipelines of random weights of the other families each method trains two steps and makes a
picture: that shows that the pair runs, and nothing else. ``docs/guide/methods.md`` is written from the result.
"""

import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.harness import Row, Setting
from benchmarks.sample_catalog import taken_in, trained
from packshot.bootstrap import Workspace, create_workspace
from packshot.domain.evaluation import Outcome
from packshot.domain.generation import SamplingSettings
from packshot.domain.models import EMBEDDED_BASE, FineTune
from packshot.domain.presets import parse_config
from packshot.domain.training import TrainingConfig
from packshot.domain.training_choices import Method
from packshot.services.evaluation import Suite, evaluate
from packshot.services.models import register_base
from packshot.services.training import WEIGHTS
from packshot.settings import Settings

CATEGORY = "produce/apple/honeycrisp"
SCORED = "stable-diffusion"
UNSCORED = ("stable-diffusion-xl", "stable-diffusion-3", "flux")
METHODS: Mapping[str, Mapping[str, object]] = {
    "full": {"method": Method.FULL},
    "lora": {"method": Method.LORA},
    "lora with DoRA": {"method": Method.LORA, "use_dora": True},
    "pivotal": {"method": Method.PIVOTAL},
    "textual_inversion": {"method": Method.TEXTUAL_INVERSION},
    "hypernetwork": {"method": Method.HYPERNETWORK},
}
_QUICK = {"steps": 2, "batch_size": 1, "num_class_images": 2, "class_inference_steps": 2}
_MEGABYTE = 1e6


def measure(setting: Setting) -> list[Row]:
    """Scores, seconds and megabytes of every method on the bundled base, and which run on the other families."""
    torch.set_num_threads(setting.threads)
    return [*_scored_rows(setting), *(row for family in UNSCORED for row in _unscored_rows(family))]


def _scored_rows(setting: Setting) -> list[Row]:
    changes = _QUICK if setting.quick else {}
    suite = Suite(images_per_scene=1, class_images=2, inference_steps=2) if setting.quick else Suite()
    rows: list[Row] = []
    with TemporaryDirectory() as home, create_workspace(Settings(home=Path(home))) as space:
        base = register_base(space.records, space.bases.describe(EMBEDDED_BASE))
        category = taken_in(space, base)[CATEGORY]  # the others are its rivals
        for name, values in {"warm-up": {"method": Method.LORA, "steps": 1}, **METHODS}.items():
            config = parse_config({**values, **changes}, base_resolution=base.resolution, family=base.family)
            start = time.perf_counter()
            fine_tune = trained(space, category, base, config)
            seconds = time.perf_counter() - start
            if name != "warm-up":
                rows += measured(space, fine_tune, suite, name, config, seconds, bare=not rows)
    return rows


def measured(
    space: Workspace,
    fine_tune: FineTune,
    suite: Suite,
    method: str,
    config: TrainingConfig,
    seconds: float,
    *,
    bare: bool,
) -> list[Row]:
    """Rows of one method; with ``bare`` also those of the bare base and of real photos, which are equal for all."""
    found = evaluate(space.records, space.blobs, space.generator, space.judge, fine_tune, suite=suite)
    weights = next(each for each in fine_tune.artifacts if each.name == WEIGHTS)
    figures = {
        "fidelity": found.fine_tune.subject_fidelity,
        "adherence": found.fine_tune.prompt_adherence,
        "drift": found.fine_tune.prior_drift,
        "diversity": found.fine_tune.diversity,
        "nearest category": found.fine_tune.nearest_category_accuracy,
        "not rejected": float(found.verdict.outcome is not Outcome.REJECTED),
        "steps": config.steps,
    }
    rows = [Row(label=f"{SCORED} / {method} / {name}", value=value, unit="") for name, value in figures.items()]
    rows.append(Row(label=f"{SCORED} / {method} / training", value=seconds, unit="s"))
    rows.append(Row(label=f"{SCORED} / {method} / weights", value=weights.num_bytes / _MEGABYTE, unit="MB"))
    if bare:
        known = {
            "real photos / fidelity": found.real_fidelity,
            "bare base / fidelity": found.base.subject_fidelity,
            "bare base / adherence": found.base.prompt_adherence,
            "bare base / diversity": found.base.diversity,
            "bare base / nearest category": found.base.nearest_category_accuracy,
        }
        rows = [Row(label=f"{SCORED} / {name}", value=value, unit="") for name, value in known.items()] + rows
    return rows


def _unscored_rows(family: str) -> list[Row]:
    """For each method whether it runs, and what it keeps on disk, on the pipelines that the tests train on."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from fixtures_families import quick, save_family
    from fixtures_pipelines import Studio, loaded, silent, task, train

    rows: list[Row] = []
    with TemporaryDirectory() as folder:
        studio = Studio(save_family(family, Path(folder) / "base"))
        for number, (name, values) in enumerate(METHODS.items()):
            config = replace(quick(family), steps=2, **values)
            of = task(studio, Path(folder) / str(number), config=config, cachedir=Path(folder) / "cache")
            weights = train(studio, of).files[WEIGHTS]
            prompts = [f"a photo of a {of.trained_phrase}"]
            sampling = SamplingSettings(seed=0, num_images=1, inference_steps=2)
            pictures = studio.generator.generate(
                studio.base, loaded(studio, of, weights), prompts, sampling, report=silent
            )
            runs = float(len(pictures) == 1)
            rows.append(Row(label=f"{family} / {name} / runs", value=runs, unit="of 1", at_least=1.0))
    return rows
