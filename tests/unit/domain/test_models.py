from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packshot.domain.errors import NothingServing
from packshot.domain.models import AliasAction, AliasEvent, is_quarantined, rollback_target, serving

VERSIONS = ("ft_a", "ft_b", "ft_c")


def appended(events: list[AliasEvent], action: AliasAction, fine_tune_id: str) -> None:
    number = len(events) + 1
    events.append(
        AliasEvent(
            id=f"ale_{number}",
            category_id="cat_1",
            number=number,
            fine_tune_id=fine_tune_id,
            action=action,
            reason="",
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
        )
    )


def history(steps: list[str | None]) -> list[AliasEvent]:
    """The events of promotions (by id) and rollbacks (None)."""
    events: list[AliasEvent] = []
    for step in steps:
        if step is None:
            appended(events, AliasAction.ROLLBACK, rollback_target(events, "produce/apple"))
        else:
            appended(events, AliasAction.PROMOTE, step)
    return events


def test_nothing_serves_at_first():
    assert serving([]) is None
    with pytest.raises(NothingServing, match="produce/apple serves nothing yet"):
        rollback_target([], "produce/apple")


def test_the_first_version_has_nothing_before_it():
    with pytest.raises(NothingServing, match="serves its first version"):
        rollback_target(history(["ft_a"]), "produce/apple")


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (["ft_a"], "ft_a"),
        (["ft_a", "ft_b"], "ft_b"),
        (["ft_a", "ft_b", None], "ft_a"),
        (["ft_a", "ft_b", "ft_c", None, None], "ft_a"),
        (["ft_a", "ft_b", None, "ft_c", None], "ft_a"),
        (["ft_a", "ft_b", "ft_a", None], "ft_b"),
        (["ft_a", "ft_b", "ft_b", "ft_b", None], "ft_a"),
        (["ft_a", "ft_b", None, "ft_b", None], "ft_a"),
    ],
)
def test_promotions_and_rollbacks_act_as_a_stack(steps, expected):
    assert serving(history(steps)) == expected


def test_the_order_of_the_events_is_their_number_not_their_place():
    events = history(["ft_a", "ft_b", "ft_c", None])
    assert serving(reversed(events)) == "ft_b"
    assert rollback_target(list(reversed(events)), "produce/apple") == "ft_a"


QUARANTINE = AliasAction.QUARANTINE


@pytest.mark.parametrize(
    ("promoted", "damaged", "serves", "before"),
    [
        (["ft_a", "ft_b"], "ft_b", "ft_a", None),
        (["ft_a", "ft_b", "ft_c"], "ft_b", "ft_c", "ft_a"),
        (["ft_a", "ft_b", "ft_a"], "ft_b", "ft_a", None),
        (["ft_a", "ft_b", "ft_c"], "ft_a", "ft_c", "ft_b"),
        (["ft_a"], "ft_a", None, None),
    ],
)
def test_what_is_quarantined_neither_serves_nor_is_rolled_back_to(promoted, damaged, serves, before):
    events = history(promoted)
    assert not is_quarantined(damaged, events)
    appended(events, QUARANTINE, damaged)
    assert is_quarantined(damaged, events)
    assert serving(events) == serves
    if before:
        assert rollback_target(events, "produce/apple") == before
    else:
        with pytest.raises(NothingServing):
            rollback_target(events, "produce/apple")
    appended(events, AliasAction.PROMOTE, damaged)
    assert not is_quarantined(damaged, events)
    assert serving(events) == damaged


@given(st.lists(st.sampled_from((*VERSIONS, None)), max_size=30))
def test_any_history_serves_what_a_plain_stack_of_changes_says(steps):
    events: list[AliasEvent] = []
    stack: list[str] = []
    for step in steps:
        if step is not None:
            appended(events, AliasAction.PROMOTE, step)
            if stack[-1:] != [step]:
                stack.append(step)
        elif len(stack) < 2:
            with pytest.raises(NothingServing):
                rollback_target(events, "produce/apple")
        else:
            stack.pop()
            appended(events, AliasAction.ROLLBACK, rollback_target(events, "produce/apple"))
        assert serving(events) == (stack[-1] if stack else None)
