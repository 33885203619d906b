import doctest
import importlib
import inspect
import pkgutil
import re

import pytest

import packshot.domain
from packshot.domain import errors

MODULES = [f"packshot.domain.{module.name}" for module in pkgutil.iter_modules(packshot.domain.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings_hold(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples():
    assert sum(doctest.testmod(importlib.import_module(name)).attempted for name in MODULES) >= 6


def test_the_drawn_tree_is_the_real_tree():
    drawn: dict[str, str] = {}
    parents = {-1: ""}
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^((?:[│ ]   )*)([├└]── )?([A-Z]\w+)(?:  |$)", line)
        if found and (found[2] or found[3] == "PackshotError"):
            depth = len(found[1]) // 4 + 1 if found[2] else 0
            parents[depth] = found[3]
            drawn[found[3]] = parents[depth - 1]
    real = {
        name: kind.__bases__[0].__name__
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.PackshotError)
    }
    assert drawn == {**real, "PackshotError": ""}
