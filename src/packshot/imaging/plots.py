"""The loss curve of a training as a PNG. Does not know how the loss is computed."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_COLOURS = {"loss": "#222222", "instance_loss": "#c0392b", "prior_loss": "#2471a3"}
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
