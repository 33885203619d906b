"""One loop for the networks that look at pictures (05_judge, 07_check). Knows a loss; does not know what it means."""

import math
import sys
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor, nn

from training.run import Run


class Objective(Protocol):
    """What learns, and the loss of one batch that the generator draws."""

    modules: dict[str, nn.Module]

    def loss(self, generator: np.random.Generator) -> Tensor: ...


def learn(objective: Objective, folder: Path, rate: float, seed: int, minutes: float, steps: int | None) -> None:
    """Trains to the limit, over all sessions; each step draws from its own seed, so that a resumed run draws the same.

    A signal ends the program, so that nothing is measured of what is half trained.
    """
    parameters = [parameter for module in objective.modules.values() for parameter in module.parameters()]
    optimizer = torch.optim.AdamW(parameters, rate, weight_decay=0.05, foreach=True)
    run = Run(folder, checkpoint_minutes=4)
    run.resume(objective.modules, optimizer)
    run.limit(minutes=minutes, steps=steps)
    for module in objective.modules.values():
        module.train()
    with Progress() as bars:
        bar = bars.add_task(folder.name, total=1.0)
        while run.going():
            generator = np.random.default_rng([seed, run.step])
            share = min(1.0, (run.step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * run.progress))
            for group in optimizer.param_groups:
                group["lr"] = rate * share
            loss = objective.loss(generator)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            if logged := run.advance({"loss": loss.item()}):
                bars.update(bar, completed=run.progress, description=f"step {run.step} loss {logged['loss']:.4f}")
    run.save()
    if run.interrupted:
        sys.exit(f"interrupted at step {run.step}; the same command goes on from there")
    for module in objective.modules.values():
        module.eval()
