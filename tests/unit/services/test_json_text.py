import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from packshot.services.json_text import to_json


@dataclass(frozen=True)
class Measured:
    score: float
    at: datetime


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_does_not_have_is_null_however_deep_it_lies(number):
    value = {"measured": [Measured(number, datetime(2026, 1, 2, tzinfo=UTC))], "plain": (1, 0.5, "NaN", True, None)}
    assert json.loads(to_json(value), parse_constant=pytest.fail) == {
        "measured": [{"score": None, "at": "2026-01-02T00:00:00+00:00"}],
        "plain": [1, 0.5, "NaN", True, None],
    }
