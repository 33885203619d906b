"""The curves of a training as PNGs: its losses, and its scores. Does not know how they are computed."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from packshot.domain.step_choice import LookScores

_COLOURS = {"loss": "#222222", "instance_loss": "#c0392b", "prior_loss": "#2471a3"}
_SCORE_COLOURS = {"fidelity": "#c0392b", "adherence": "#2471a3", "drift": "#7d7d7d"}
_NAMES = {"loss": "loss", "instance_loss": "instance", "prior_loss": "class prior"}


def loss_plot(metrics: Sequence[Mapping[str, float]], title: str = "") -> bytes:
    """Loss by step, pale as measured and strong as smoothed, for whichever of the three losses the rows hold.

    Each row has ``step`` and any of ``loss``, ``instance_loss``, ``prior_loss``; values that are not finite leave a
    gap. Equal rows give equal bytes on one machine.
    """
    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for key, colour in _COLOURS.items():
        rows = [row for row in metrics if key in row and np.isfinite(row[key])]
        if not rows:
            continue
        steps = [row["step"] for row in rows]
        losses = [row[key] for row in rows]
        axes.plot(steps, losses, color=colour, alpha=0.2, linewidth=0.8)
        axes.plot(steps, _smoothed(losses), color=colour, linewidth=1.6, label=_NAMES[key])
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)
    if title:
        axes.set_title(title, loc="left", fontsize=11)
    return _png(figure)


def choice_plot(looks: Sequence[LookScores], chosen: int) -> bytes:
    """Fidelity, adherence and drift of the looks at a training, by step, with a line at the chosen one; PNG bytes."""
    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    steps = [each.step for each in looks]
    for name, colour in _SCORE_COLOURS.items():
        axes.plot(steps, [getattr(each, name) for each in looks], color=colour, marker="o", markersize=3, label=name)
    axes.axvline(chosen, color="#222222", linestyle="--", linewidth=1, label=f"chosen: step {chosen}")
    axes.set_xlabel("step")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return _png(figure)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def _smoothed(values: Sequence[float]) -> list[float]:
    """Exponential moving average over about a twentieth of the curve, corrected for its start."""
    keep = 1 - 1 / max(1.0, len(values) / 20)
    average, weight, smooth = 0.0, 0.0, list[float]()
    for value in values:
        average = keep * average + (1 - keep) * value
        weight = keep * weight + (1 - keep)
        smooth.append(average / weight)
    return smooth
