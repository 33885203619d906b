"""What ``packshot train`` says of memory and time before it begins."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from packshot.cli.output import duration, show, table
from packshot.domain.errors import PackshotError

if TYPE_CHECKING:
    from packshot.bootstrap import Workspace
    from packshot.domain.models import BaseModelRef
    from packshot.domain.training import TrainingConfig
    from packshot.domain.training_cost import TrainingCost


def foreseen(
    space: "Workspace", paths: Sequence[str], base: "BaseModelRef", config: "TrainingConfig"
) -> "TrainingCost":
    """The cost of training the first of ``paths`` that can be trained.

    Raises:
        PackshotError: none can; it is that of the last.
    """
    from packshot.services.catalog import category_at
    from packshot.services.training_cost import foresee_cost

    *others, last = paths
    for path in others:
        try:
            category = category_at(space.records, path, space.settings.namespace)
            return foresee_cost(space.records, space.trainer, category, base, config)
        except PackshotError:  # the plan of this category says it
            continue
    category = category_at(space.records, last, space.settings.namespace)
    return foresee_cost(space.records, space.trainer, category, base, config)


def show_dry_run(cost: "TrainingCost", config: "TrainingConfig", num_categories: int, as_json: bool) -> None:
    """Print the whole configuration and the cost of each category."""
    value = {"config": config, "cost": {**vars(cost), "seconds": cost.seconds}, "categories": num_categories}
    rows = config_rows(config)
    show(value, as_json, lambda: f"{table(['key', 'value'], rows)}\n\n{cost_text(cost, config, num_categories)}")


def config_rows(config: "TrainingConfig") -> list[list[object]]:
    """Every key with its value."""
    return [[key, " | ".join(given) if isinstance(given, tuple) else given] for key, given in vars(config).items()]


def cost_text(cost: "TrainingCost", config: "TrainingConfig", num_categories: int) -> str:
    """The cost in words."""
    parts = [
        f"training {duration(cost.training_seconds)}{' at the most' if config.choose_steps else ''}",
        f"class images {duration(cost.class_image_seconds)} unless they are there already",
        f"encoding {duration(cost.preparation_seconds)}",
        f"looks {duration(cost.look_seconds)}",
    ]
    seconds = (cost.training_seconds, cost.class_image_seconds, cost.preparation_seconds, cost.look_seconds)
    told = ", ".join(part for part, value in zip(parts, seconds, strict=True) if value)
    each = f"each of {num_categories} categories, alone: " if num_categories > 1 else ""
    return (
        f"estimate: {each}{duration(cost.seconds)} ({told}), {cost.peak_bytes / 1e9:.2f} GB of memory; "
        f"{cost.learning_parameters / 1e6:.2f} of {cost.base_parameters / 1e6:.1f} million parameters learn"
    )
