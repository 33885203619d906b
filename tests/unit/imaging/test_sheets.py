"""Sheets and plots: every picture is there, whole, and no text is cut off."""

import io
import math
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFont

from packshot.imaging.pixels import encode_png
from packshot.imaging.plots import loss_plot
from packshot.imaging.sheets import Row, _wrap, comparison_sheet, contact_sheet

COLOURS = [(255, 0, 0), (0, 160, 0), (0, 0, 255), (200, 160, 0), (160, 0, 160), (0, 160, 160), (90, 60, 30)]


def plain(colour: tuple[int, int, int], size: tuple[int, int] = (32, 32)) -> bytes:
    return encode_png(Image.new("RGB", size, colour))


def pixels(png: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB"))


def area(sheet: bytes, colour: tuple[int, int, int]) -> int:
    return int((pixels(sheet) == colour).all(axis=2).sum())


def margins_are_white(sheet: bytes, width: int = 12) -> bool:
    page = pixels(sheet)
    return all((edge == 255).all() for edge in (page[:width], page[-width:], page[:, :width], page[:, -width:]))


@pytest.mark.parametrize("count", [1, 3, 7])
def test_a_contact_sheet_shows_every_picture_whole(count: int) -> None:
    sheet = contact_sheet([plain(colour) for colour in COLOURS[:count]], columns=3, tile=40)
    assert [area(sheet, colour) for colour in COLOURS] == [1600] * count + [0] * (7 - count)
    assert margins_are_white(sheet)


def test_a_wide_picture_is_not_cropped() -> None:
    assert area(contact_sheet([plain(COLOURS[0], (64, 16))], tile=40), COLOURS[0]) == 400


def test_long_captions_and_titles_stay_inside_and_apart_from_pictures() -> None:
    words = "sks_honeycrisp_apple on a wooden table, warm light and many more words " * 3
    images = [plain(colour) for colour in COLOURS]
    sheet = contact_sheet(images, columns=3, captions=[words] * 7, title=words, tile=100)
    assert [area(sheet, colour) for colour in COLOURS] == [10_000] * 7
    assert margins_are_white(sheet)


def test_captions_and_titles_are_drawn() -> None:
    bare, titled = contact_sheet([plain((255, 0, 0))]), contact_sheet([plain((255, 0, 0))], title="t", captions=["c"])
    assert pixels(titled).shape[0] > pixels(bare).shape[0]


@pytest.mark.parametrize("text", ["one two three four", "x" * 90, "sks_granny_smith_apple v12", "", "  a  "])
@pytest.mark.parametrize("width", [60, 100, 400])
def test_wrapped_lines_fit_and_lose_nothing(text: str, width: int) -> None:
    font = ImageFont.load_default(14)
    lines = _wrap(text, font, width)
    assert all(font.getlength(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


def test_long_identifiers_break_at_their_underscores() -> None:
    assert _wrap("sks_granny_smith_apple", ImageFont.load_default(14), 120)[0].endswith("_")


def test_a_comparison_has_its_rows_and_columns_in_place() -> None:
    images = [plain(colour) for colour in COLOURS]
    rows = [Row(label="references", images=images[:2]), Row(label="bare base", images=images[2:5])]
    sheet = comparison_sheet(rows, ["on wood", "on marble", "on grass, in a very long light"], title="apple", tile=60)
    assert [area(sheet, colour) for colour in COLOURS] == [3600] * 5 + [0] * 2
    assert margins_are_white(sheet)
    page = pixels(sheet)
    places = [np.argwhere((page == colour).all(axis=2)).min(axis=0).tolist() for colour in COLOURS[:5]]
    assert places[0][0] == places[1][0] < places[2][0] == places[3][0]
    assert places[0][1] == places[2][1] < places[1][1] == places[3][1] < places[4][1]


def test_a_sheet_is_reproducible() -> None:
    assert contact_sheet([plain((1, 2, 3))], title="t") == contact_sheet([plain((1, 2, 3))], title="t")


def has_colour(png: bytes, dominant: int) -> bool:
    page = pixels(png).astype(int)
    others = page.sum(axis=2) - page[..., dominant]
    return bool((2 * page[..., dominant] - others > 120).any())


def test_a_loss_plot_draws_the_curves_that_there_are() -> None:
    rows = [{"step": i, "loss": 1 / (i + 1), "instance_loss": 0.5 / (i + 1), "prior_loss": 0.1} for i in range(60)]
    whole = loss_plot(rows, "apple")
    assert has_colour(whole, 0)
    assert has_colour(whole, 2)
    without_prior = loss_plot([{key: row[key] for key in ("step", "loss")} for row in rows])
    assert not has_colour(without_prior, 0)
    assert not has_colour(without_prior, 2)
    assert loss_plot(rows, "apple") == whole


@pytest.mark.parametrize(
    "rows", [[], [{"step": 1, "loss": 0.5}], [{"step": 1, "loss": math.nan}, {"step": 2, "loss": 1}]]
)
def test_short_and_broken_curves_are_plotted(rows: list[dict[str, float]]) -> None:
    assert pixels(loss_plot(rows)).shape[2] == 3
