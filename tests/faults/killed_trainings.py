"""Fault test 1: kill -9 a training at random steps and moments, several times, for every method."""

import random
import time

from faults.children import CONFIGS, EVERY, Life, Nursery
from faults.registry import Check, Setting, fault
from packshot.domain.training_choices import Method

RUNS = 40
MOST_LATER_KILLS = 3


@fault(
    1, "killed trainings", passes="same sha256 as uninterrupted, every time; at most one checkpoint interval is lost"
)
def killed_trainings(setting: Setting) -> list[Check]:
    """Runs of every method, each killed at a random step and then at random moments, beside one that nothing disturbs."""
    nursery = Nursery(setting.workdir)
    draw = random.Random(setting.seed)
    checks: list[Check] = []
    for name in list(Method) if setting.quick else CONFIGS:
        start = time.monotonic()
        whole = nursery.life(nursery.task(f"{name}, whole", CONFIGS[name]))
        seconds = time.monotonic() - start
        runs = [
            _killed(nursery, f"{name}, {number}", name, draw, seconds) for number in range(1 if setting.quick else RUNS)
        ]
        checks += [
            Check(
                label=f"{name}: equal to the uninterrupted run",
                cases=len(runs),
                passed=sum(lives[-1].digest == whole.digest for lives in runs),
                failures=[_told(lives) for lives in runs if lives[-1].digest != whole.digest],
                note=f"{sum(life.killed for lives in runs for life in lives)} kills",
            ),
            _lost(name, runs),
        ]
    return checks


def _killed(nursery: Nursery, run: str, name: str, draw: random.Random, seconds: float) -> list[Life]:
    """The lives of a run: one that ends at a random step, some that end after a random time, one to the end."""
    config = CONFIGS[name]
    of = nursery.task(run, config)
    lives = [nursery.life(of, at_step=draw.randint(1, config.steps - 1))]
    for _ in range(draw.randint(0, MOST_LATER_KILLS)):
        lives.append(nursery.life(of, after_s=draw.uniform(0, seconds)))
        if not lives[-1].killed:
            return lives
    return [*lives, nursery.life(of)]


def _lost(name: str, runs: list[list[Life]]) -> Check:
    """Steps between the last that was reported before a kill and the first of the next life."""
    lost: list[int] = []
    failures: list[str] = []
    for lives in runs:
        last = 0
        for life in lives:
            if life.steps:
                lost.append(max(0, last - (life.steps[0] - 1)))
                last = life.steps[-1]
                if lost[-1] > EVERY:
                    failures.append(_told(lives))
    return Check(
        label=f"{name}: lost steps <= {EVERY}",
        cases=len(lost),
        passed=sum(each <= EVERY for each in lost),
        failures=failures,
        note=f"at most {max(lost)} lost",
    )


def _told(lives: list[Life]) -> str:
    return "; ".join(f"steps {life.steps}{' killed' if life.killed else ''}" for life in lives)
