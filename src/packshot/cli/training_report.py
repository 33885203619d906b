"""``packshot report``: what a training left behind, and what to say of one that chose its own steps."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from packshot.cli.models import Versioned
from packshot.cli.output import Json, Out, show, workspace, write_files
from packshot.domain.errors import InvalidInput

if TYPE_CHECKING:
    from packshot.domain.models import FineTune
    from packshot.domain.training import TrainingRun
    from packshot.ports import Blobs


def register(app: typer.Typer) -> None:
    """Add this module's commands to ``app``."""
    app.command()(report)


def report(reference: Versioned, out: Out = Path("out"), as_json: Json = False) -> None:
    """Write what a training left beside its weights: figures, loss curve, validation pictures, and how steps were chosen."""
    from packshot.services.models import fine_tune_at, training_run_of
    from packshot.services.training import WEIGHTS

    with workspace() as space:
        fine_tune = fine_tune_at(space.records, reference, space.settings.namespace)
        run = training_run_of(space.records, fine_tune)
        if run is None:
            raise InvalidInput(f"{reference} was not trained here, so no training tells of it; see: packshot show")
        stem = f"{reference.split('@')[0].replace('/', '-')}-v{fine_tune.version}"
        kept = [each for each in fine_tune.artifacts if each.name != WEIGHTS]
        written = write_files(out, {f"{stem}-{each.name}": space.blobs.get(each.sha256) for each in kept})
        lines = [f"{reference}: {steps_taken(space.blobs, fine_tune, run)}", *reasons(space.blobs, fine_tune)]
        value = {"run": run, "files": [str(path) for path in written], "reasons": lines[1:]}
        show(value, as_json, lambda: "\n".join([*lines, *(str(path) for path in written)]))


def steps_taken(blobs: "Blobs", fine_tune: "FineTune", run: "TrainingRun") -> str:
    """Method and steps of a training, in words."""
    from packshot.services.step_choice import choice_of

    choice = choice_of(blobs, fine_tune)
    steps = f"step {choice.step}, chosen among {run.config.steps}" if choice else f"{run.config.steps} steps"
    return f"{fine_tune.method}, {steps}"


def reasons(blobs: "Blobs", fine_tune: "FineTune") -> list[str]:
    """Why a training that chose its own steps chose these; none for another."""
    from packshot.services.step_choice import choice_of

    choice = choice_of(blobs, fine_tune)
    return [f"  {reason}" for reason in choice.reasons] if choice else []
