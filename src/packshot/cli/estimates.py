"""What a dry run prints: what would be made, and what that takes by finished jobs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from packshot.cli.output import duration, table

if TYPE_CHECKING:
    from packshot.services.estimates import Estimate, EstimatedModel, Failure


def estimate_text(estimate: "Estimate") -> str:
    """An estimate in words, with what would fail."""
    counts = (
        (estimate.training_steps, "training steps"),
        (estimate.training_images, "training images"),
        (estimate.pictures, "class images" if estimate.training_steps else "pictures"),
        (estimate.denoising_steps, "denoising steps"),
    )
    lines = [
        f"{', '.join(f'{count} {name}' for count, name in counts if count) or 'nothing'}; "
        f"{estimate.jobs_ahead} jobs wait before it",
        *(f"by {_model_text(model)}" for model in estimate.models),
        _time_text(estimate),
    ]
    return "\n".join([*lines, failures_text(estimate.failures)] if estimate.failures else lines)


def failures_text(failures: "Sequence[Failure]") -> str:
    """A line for each failure, with its reason."""
    rows = [[each.category, each.template, each.error, each.message] for each in failures]
    return f"{len(failures)} failed:\n{table(['category', 'template', 'error', 'why'], rows)}"


def _model_text(model: "EstimatedModel") -> str:
    if model.foreign_model:
        return model.foreign_model
    if model.version:
        return f"version {model.version} of {model.category} on {model.base}"
    return (
        f"set {model.reference_set_version} of {model.category} on {model.base}" if model.category else f"{model.base}"
    )


def _time_text(estimate: "Estimate") -> str:
    if estimate.seconds is None:
        return "time unknown: no finished job is like it"
    cost = f", cost {estimate.cost:.2f}" if estimate.cost else ""
    return f"about {duration(estimate.seconds)} of compute{cost}, by {estimate.measured_jobs} finished jobs"
