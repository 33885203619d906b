"""Test 29, the equality counts of the engine: pictures of random mixed batches beside the same pictures made alone."""

from collections import Counter, defaultdict

import pytest
from fixtures_families import FAMILIES, save_family
from fixtures_mixtures import TOLERANCE, every_kind, floats_instead_of_pngs, schedules
from fixtures_pipelines import Studio, save_pipeline

from faults.registry import Check, Setting, fault
from packshot.domain.training_choices import Method


@fault(29, "mixed schedules", passes="every method x 200 random mixed schedules equals the solo run")
def mixed_schedules(setting: Setting) -> list[Check]:
    """In each family as many mixtures as it takes for every method to be in that many of them."""
    return [check for family in FAMILIES for check in _family(family, setting, num_each=3 if setting.quick else 200)]


def _family(family: str, setting: Setting, *, num_each: int) -> list[Check]:
    folder = setting.workdir / family
    studio = Studio(save_pipeline(folder) if family == FAMILIES[0] else save_family(family, folder))
    tried: Counter[Method] = Counter()
    failures: dict[Method, list[str]] = defaultdict(list)
    largest, number = 0.0, 0
    with pytest.MonkeyPatch.context() as patch:
        floats_instead_of_pngs(patch)
        for number, (methods, difference) in enumerate(schedules(studio, every_kind(studio), setting.seed), start=1):
            largest = max(largest, difference)
            tried.update(methods)
            for method in methods if difference > TOLERANCE else ():
                failures[method].append(f"mixture {number - 1}: a pixel differs by {difference:.1e}")
            if min(tried[method] for method in Method) >= num_each:
                break
    note = f"{number} mixtures in all, largest difference of a pixel {largest:.1e}"
    return [
        Check(
            label=f"{family}, {method}",
            cases=tried[method],
            passed=tried[method] - len(failures[method]),
            failures=failures[method],
            note=note,
        )
        for method in Method
    ]
