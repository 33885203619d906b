"""Benchmark 15: the presets of one method on the bundled base; rows are named as those of benchmark 12.

``best`` chooses its steps by what the judge says of a held-out photo, so this is also how ``--steps auto`` does. Class
images, which trainings share, are made before the clock starts.
"""

import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.harness import Row, Setting
from benchmarks.methods import CATEGORY, SCORED, measured
from benchmarks.sample_catalog import taken_in, trained
from packshot.bootstrap import create_workspace
from packshot.domain.models import EMBEDDED_BASE
from packshot.domain.presets import PRESET, Preset, parse_config
from packshot.services.evaluation import Suite
from packshot.services.models import register_base
from packshot.services.step_choice import REPORT
from packshot.settings import Settings

_QUICK = {"steps": 2, "batch_size": 1, "num_class_images": 2, "class_inference_steps": 2, "validation_every_steps": 1}


def measure(setting: Setting) -> list[Row]:
    """Scores, seconds and megabytes of every preset of the default method."""
    torch.set_num_threads(setting.threads)
    changes = _QUICK if setting.quick else {}
    suite = Suite(images_per_scene=1, class_images=2, inference_steps=2) if setting.quick else Suite()
    rows: list[Row] = []
    with TemporaryDirectory() as home, create_workspace(Settings(home=Path(home))) as space:
        base = register_base(space.records, space.bases.describe(EMBEDDED_BASE))
        category = taken_in(space, base)[CATEGORY]
        for preset in Preset:
            values = {PRESET: preset, **changes}
            config, first = (
                parse_config({**values, **more}, base_resolution=base.resolution, family=base.family)
                for more in ({}, {"steps": 1, "choose_steps": False})
            )
            trained(space, category, base, first)
            start = time.perf_counter()
            fine_tune = trained(space, category, base, config)
            seconds = time.perf_counter() - start
            rows += measured(space, fine_tune, suite, preset, config, seconds, bare=not rows)
            for artifact in fine_tune.artifacts:
                if artifact.name == REPORT:
                    kept = json.loads(space.blobs.get(artifact.sha256))["choice"]["step"]
                    rows.append(Row(label=f"{SCORED} / {preset} / steps kept", value=kept, unit=""))
    return rows
