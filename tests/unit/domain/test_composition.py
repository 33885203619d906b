from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packshot.domain.composition import Box, layout, read_box
from packshot.domain.errors import InvalidComposition
from packshot.domain.generation import prompt_about_one

LEFT, RIGHT = Box.of((0, 0, 0.5, 1)), Box.of((0.5, 0, 1, 1))


@pytest.mark.parametrize("count", [2, 3, 4])
def test_without_boxes_subjects_stand_in_equal_columns_from_left_to_right(count):
    boxes = layout(count, ())
    assert (boxes[0].left, boxes[-1].right) == (0, 1)
    assert all((box.top, box.bottom) == (0, 1) for box in boxes)
    assert all(one.right == other.left for one, other in pairwise(boxes))
    assert {round(box.right - box.left, 9) for box in boxes} == {round(1 / count, 9)}


def test_boxes_that_share_an_edge_are_taken_in_the_order_given():
    assert layout(2, [RIGHT, LEFT]) == (RIGHT, LEFT)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_every_subject_needs_a_box(count):
    with pytest.raises(InvalidComposition, match=f"2 boxes are given, and the prompt names {count}"):
        layout(count, [LEFT, RIGHT])


def test_boxes_that_overlap_are_refused_by_name():
    with pytest.raises(InvalidComposition, match=r"0,0,0.5,1 and 0.4,0.2,1,1 overlap"):
        layout(2, [LEFT, Box.of((0.4, 0.2, 1, 1))])


def test_a_fifth_subject_finds_no_room():
    with pytest.raises(InvalidComposition, match="5 subjects; at most 4"):
        layout(5, ())


@pytest.mark.parametrize(
    "text",
    [
        *("", "0,0,1", "0,0,1,1,1", "a,0,1,1", "0;0;1;1"),
        *("0,0,nan,1", "0,0,inf,1", "-0.1,0,1,1", "0,0,1.01,1"),
        *("0.5,0,0.5,1", "0.6,0,0.4,1", "0,0,0.1,1", "0,0.95,1,1"),
    ],
)
def test_what_is_no_box_in_the_picture_is_refused(text):
    with pytest.raises(InvalidComposition):
        read_box(text)


edges = st.integers(0, 64).map(lambda number: number / 64)


@given(edges, edges, edges, edges)
def test_a_box_reads_as_it_is_written(left, top, right, bottom):
    try:
        box = Box.of((left, top, right, bottom))
    except InvalidComposition:
        return
    assert read_box(str(box)) == box


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("sks_fuji_apple next to sks_conference_pear in a basket", "<t> apple in a basket"),
        ("a photo of SKS_fuji_apple and sks_conference_pear", "a photo of <t> apple"),
        ("sks_a_b, sks_c_d and sks_a_b again, warm light", "<t> apple again, warm light"),
        ("only sks_fuji_apple here", "only <t> apple here"),
    ],
)
def test_the_prompt_about_one_subject_leaves_out_what_stands_between_identifiers(prompt, expected):
    assert prompt_about_one(prompt, "<t> apple") == expected
