"""Fault test 2: kill -9 a training at every operation by which it writes its checkpoint."""

import json
from dataclasses import dataclass
from pathlib import Path

from faults.children import CONFIGS, EVERY, Nursery
from faults.operations import Operations
from faults.registry import Check, Setting, fault
from packshot.diffusion.checkpoints import Checkpoints
from packshot.domain.training_choices import Method
from packshot.ports import TrainingTask

WHICH = (("first", EVERY), ("second", 2 * EVERY))
QUICK_STRIDE = 5  # as far apart are the operations of a quick test


@dataclass(frozen=True, kw_only=True)
class Known:
    """What a method's undisturbed run gives: its digest, what names it, and each checkpoint's digest by its step."""

    digest: str
    run_digest: str
    states: dict[int, str]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One kill before operation ``what``: whether the right checkpoint was there, and the resumed run equal."""

    what: str
    loads: bool
    equal: bool
    clean: bool


@fault(
    2,
    "killed checkpoints",
    passes="the newest complete checkpoint always loads; the old one is kept until the new one is verified",
)
def killed_checkpoints(setting: Setting) -> list[Check]:
    """A kill at every operation of a run's first checkpoint, and of its second, which replaces the first."""
    nursery = Nursery(setting.workdir)
    checks: list[Check] = []
    for method in [Method.PIVOTAL] if setting.quick else Method:
        known = _known(nursery, method)
        for which, since in (("second", 2 * EVERY),) if setting.quick else WHICH:
            cases = _cases(nursery, method, known, since, QUICK_STRIDE if setting.quick else 1)
            label = f"{method}, {which} checkpoint"
            checks += [
                _check(f"{label}: the newest whole one loads", cases, [case.loads for case in cases]),
                _check(f"{label}: the resumed run is equal", cases, [case.equal for case in cases]),
                _check(f"{label}: nothing half-written stays", cases, [case.clean for case in cases]),
            ]
    return checks


def _check(label: str, cases: list[Case], held: list[bool]) -> Check:
    failures = [f"killed {case.what}" for case, good in zip(cases, held, strict=True) if not good]
    return Check(label=label, cases=len(cases), passed=sum(held), failures=failures)


def _known(nursery: Nursery, method: Method) -> Known:
    of = nursery.task(f"{method}-whole", CONFIGS[method])
    states: dict[int, str] = {}
    run_digest = ""
    for step in (EVERY, 2 * EVERY):
        nursery.life(of, at_step=step + 1)
        about = json.loads((_folder(of, step) / "checkpoint.json").read_text())
        states[step], run_digest = about["state_sha256"], about["run_digest"]
    undisturbed = nursery.life(nursery.task(f"{method}-undisturbed", CONFIGS[method]))
    return Known(digest=undisturbed.digest, run_digest=run_digest, states=states)


def _cases(nursery: Nursery, method: Method, known: Known, since: int, stride: int) -> list[Case]:
    config = CONFIGS[method]
    rehearsed = nursery.life(nursery.task(f"{method}-{since}", config), operations=Operations(since=since)).operations
    (renamed,) = (number for number, what in enumerate(rehearsed) if what.startswith("rename"))
    cases: list[Case] = []
    for deadly in range(0, len(rehearsed), stride):
        of = nursery.task(f"{method}-{since}-{deadly}", config)
        killed = nursery.life(of, operations=Operations(since=since, deadly=deadly))
        assert killed.killed, f"it lived through {rehearsed[deadly]}"
        found = _newest(of, known)
        earlier = since - EVERY or None
        expected = {since} if deadly > renamed else {earlier}
        resumed = nursery.life(of)
        cases.append(
            Case(
                what=f"{rehearsed[deadly]} (operation {deadly} after step {since})",
                loads=found in expected,
                equal=resumed.digest == known.digest,
                clean=not list(of.workdir.rglob(".writing-*")),
            )
        )
    return cases


def _newest(of: TrainingTask, known: Known) -> int | None:
    """The step of the checkpoint that a new life would go on from; -1 where it is not what that step had."""
    found = Checkpoints(of.workdir / "checkpoints", known.run_digest).newest()
    if found is None:
        return None
    about = json.loads((_folder(of, found[0]) / "checkpoint.json").read_text())
    return found[0] if about["state_sha256"] == known.states[found[0]] else -1


def _folder(of: TrainingTask, step: int) -> Path:
    return of.workdir / "checkpoints" / f"step-{step:08d}"
