"""``packshot compress``."""

import json
from enum import StrEnum
from typing import Annotated

import typer

from packshot.cli.models import Versioned
from packshot.cli.output import Json, show, workspace
from packshot.domain.training_choices import MixedPrecision


class Delta(StrEnum):
    """The floats of a stored difference."""

    BF16 = "bf16"
    FP16 = "fp16"


def register(app: typer.Typer) -> None:
    """Add this module's command to ``app``."""
    app.command()(compress)


def compress(
    reference: Versioned,
    rank: Annotated[int, typer.Option(min=1, max=1024, help="Rank of the extracted low-rank adapter.")] = 32,
    delta: Annotated[
        Delta | None, typer.Option(help="Store the whole difference from the base in these floats instead.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Store a full fine-tune smaller, as a new version: a low-rank adapter, or its difference from the base."""
    from packshot.bootstrap import code_revision
    from packshot.services.compression import REPORT, compress_fine_tune
    from packshot.services.models import fine_tune_at

    with workspace() as space:
        smaller = compress_fine_tune(
            space.records,
            space.blobs,
            space.compressor,
            fine_tune_at(space.records, reference, space.settings.namespace),
            rank=rank,
            delta=MixedPrecision(delta) if delta else MixedPrecision.NO,
            code_revision=code_revision(),
        )
        report = json.loads(space.blobs.get(smaller.artifact(REPORT).sha256))
        name = f"{reference.split('@')[0]}@{smaller.version}"
        show(
            {**vars(smaller), "compression": report},
            as_json,
            lambda: (
                f"{name}: {report['storage']}, {report['num_bytes'] / 1e6:.2f} MB instead of "
                f"{report['num_bytes_before'] / 1e6:.2f} MB, relative error of what was learned "
                f"{report['relative_error']:.2%}; what that costs in fidelity: packshot evaluate {name}"
            ),
        )
