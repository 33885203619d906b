"""A training run that can stop and go on: checkpoints, spent time, loss log, loss plot.

Knows tensors and a loss; does not know what is trained. Checkpoints are one safetensors file each, written under
a temporary name and renamed, with the counters in the file's metadata.
"""

import json
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

CHECKPOINT = "checkpoint.safetensors"


def autocast() -> torch.autocast:
    """bfloat16 for the forward pass where the processor multiplies it natively; elsewhere it would be slower."""
    return torch.autocast("cpu", torch.bfloat16, enabled=torch.cpu._is_avx512_bf16_supported())


def memory_format() -> torch.memory_format:
    """Which convolutions train faster in: the channels last in 32-bit floats, not so in bfloat16 (docs/log.md)."""
    return torch.contiguous_format if torch.cpu._is_avx512_bf16_supported() else torch.channels_last


class Run:
    """One resumable run in `folder`: `resume`, `limit`, then `advance` after every step while `going()`."""

    def __init__(self, folder: Path, *, checkpoint_minutes: float):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.checkpoint_every_s = folder, checkpoint_minutes * 60
        self.step, self.spent_s, self.extra = 0, 0.0, {}
        self._limit_s: float | None = None
        self._limit_steps: int | None = None
        self._since_s, self._since_step = 0.0, 0
        self._modules: dict[str, torch.nn.Module] = {}
        self._optimizer: torch.optim.Optimizer | None = None
        self._ema: dict[str, torch.Tensor] = {}
        self.interrupted = False
        self._last = self._saved = time.monotonic()
        self._window: list[Mapping[str, float]] = []
        self._handlers = {each: signal.signal(each, self._stop) for each in (signal.SIGTERM, signal.SIGINT)}

    def resume(self, modules: Mapping[str, torch.nn.Module], optimizer: torch.optim.Optimizer,
               ema: dict[str, torch.Tensor] | None = None) -> bool:  # fmt: skip
        """Registers what is trained and loads the checkpoint if there is one."""
        self._modules, self._optimizer, self._ema = dict(modules), optimizer, {} if ema is None else ema
        self._last = self._saved = time.monotonic()
        path = self.folder / CHECKPOINT
        if not path.is_file():
            return False
        tensors = load_file(path)
        with safe_open(path, "pt") as file:
            state = json.loads(file.metadata()["state"])
        self.step, self.spent_s, self.extra = state["step"], state["spent_s"], state["extra"]
        for name, module in self._modules.items():
            prefix = f"model.{name}."
            module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        for key, value in self._ema.items():
            value.copy_(tensors[f"ema.{key}"])
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, index, name = key.split(".")
                moments.setdefault(int(index), {})[name] = value
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
        return True

    def limit(self, *, minutes: float | None, steps: int | None, since_s: float = 0.0, since_step: int = 0) -> None:
        """Ends the run after so many minutes or steps, counted over all sessions from the given point on."""
        self._limit_s = None if minutes is None else minutes * 60
        self._limit_steps = steps
        self._since_s, self._since_step = since_s, since_step

    def going(self) -> bool:
        """False once the limit is reached or a signal came; from then on signals do what they did before the run."""
        if not self.interrupted and self.progress < 1:
            return True
        for each, handler in self._handlers.items():
            signal.signal(each, handler)
        return False

    @property
    def progress(self) -> float:
        """Spent share of the limit, 0 to 1: the larger of the two where both are given, 0 without a limit."""
        return max(
            _share(self.spent_s - self._since_s, self._limit_s), _share(self.step - self._since_step, self._limit_steps)
        )

    def advance(self, losses: Mapping[str, float], log_every: int = 25) -> dict[str, float] | None:
        """Counts a step and its time; logs every `log_every` steps (and returns what it logged); saves in time."""
        now = time.monotonic()
        self.spent_s, self._last, self.step = self.spent_s + now - self._last, now, self.step + 1
        self._window.append(losses)
        logged = None
        if self.step % log_every == 0:
            logged = {key: sum(row[key] for row in self._window) / len(self._window) for key in self._window[-1]}
            logged |= {"step": self.step, "spent_s": round(self.spent_s, 1)}
            self._window.clear()
            with (self.folder / "losses.jsonl").open("a") as file:
                file.write(json.dumps({k: round(v, 6) for k, v in logged.items()}) + "\n")
        if now - self._saved > self.checkpoint_every_s:
            self.save()
        return logged

    def pause_clock(self) -> None:
        """Leaves the time since the last step (samples, checks) out of the spent time."""
        self._last = time.monotonic()

    def save(self) -> None:
        """Writes the checkpoint and the plot."""
        tensors = {f"model.{name}.{key}": value.contiguous() for name, module in self._modules.items()
                   for key, value in module.state_dict().items()}  # fmt: skip
        tensors |= {f"ema.{key}": value.contiguous() for key, value in self._ema.items()}
        for index, moments in self._optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value.contiguous() for key, value in moments.items()}
        state = {"step": self.step, "spent_s": self.spent_s, "extra": self.extra}
        temporary = self.folder / "checkpoint.part"
        save_file(tensors, temporary, metadata={"state": json.dumps(state)})
        temporary.replace(self.folder / CHECKPOINT)
        plot_losses(self.folder / "losses.jsonl")
        self._saved = time.monotonic()

    def _stop(self, *_: object) -> None:
        self.interrupted = True


def update_ema(ema: dict[str, torch.Tensor], modules: Mapping[str, torch.nn.Module], step: int, decay: float) -> None:
    """Moves the averages towards the weights; the decay grows from 0 with the steps, as in diffusers' EMAModel."""
    decay = min(decay, (1 + step) / (10 + step))
    current = [parameter.detach() for name in modules for parameter in modules[name].parameters()]
    torch._foreach_lerp_(list(ema.values()), current, 1 - decay)


def new_ema(modules: Mapping[str, torch.nn.Module]) -> dict[str, torch.Tensor]:
    """A copy of every parameter, keyed module.parameter."""
    return {f"{name}.{key}": parameter.detach().clone() for name, module in modules.items()
            for key, parameter in module.named_parameters()}  # fmt: skip


def load_ema(modules: Mapping[str, torch.nn.Module], ema: Mapping[str, torch.Tensor]) -> None:
    """Puts the averages into the modules."""
    with torch.no_grad():
        for name, module in modules.items():
            for key, parameter in module.named_parameters():
                parameter.copy_(ema[f"{name}.{key}"])


def plot_losses(log: Path) -> None:
    """Draws every logged loss over the steps as losses.png beside the log."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
    if not rows:
        return
    names = [key for key in rows[-1] if key not in ("step", "spent_s")]
    figure, axes = pyplot.subplots(1, len(names), figsize=(4 * len(names), 3), squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        points = [(row["step"], row[name]) for row in rows if name in row]
        axis.plot(*zip(*points, strict=True), linewidth=0.8)
        axis.set(title=name, xlabel="step")
        if all(value > 0 for _, value in points):
            axis.set_yscale("log")
    figure.tight_layout()
    figure.savefig(log.with_suffix(".png"), dpi=80)
    pyplot.close(figure)


def _share(spent: float, limit: float | None) -> float:
    """The spent share of a limit, at most 1; all of a limit of nothing, and nothing of none."""
    if limit is None:
        return 0.0
    return min(1.0, spent / limit) if limit else 1.0
