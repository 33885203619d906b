"""Contact sheets and side-by-side sheets: many pictures on one white page with captions that are never cut off.

Does not know what the pictures show.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from packshot.imaging.pixels import encode_png, open_png

_INK = (34, 34, 34)
_GREY = (110, 110, 110)
_RULE = (225, 225, 225)
_PAPER = (255, 255, 255)
_MARGIN, _GAP = 24, 10
_TITLE_SIZE, _TEXT_SIZE = 22, 14

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a comparison sheet: PNGs from the left, at most one per column; None and the rest stay empty."""

    label: str
    images: Sequence[bytes | None]


def contact_sheet(
    images: Sequence[bytes],
    columns: int = 4,
    captions: Sequence[str] | None = None,
    title: str = "",
    tile: int = 192,
) -> bytes:
    """All pictures (PNG bytes), ``columns`` a line, in squares of ``tile`` pixels; the sheet as PNG bytes."""
    assert images and columns > 0, "a sheet needs pictures and columns"
    columns = min(columns, len(images))
    texts = list(captions) if captions is not None else [""] * len(images)
    assert len(texts) == len(images), "one caption per picture"
    small = ImageFont.load_default(_TEXT_SIZE)
    wrapped = [_wrap(text, small, tile) for text in texts]
    lines = [range(start, min(start + columns, len(images))) for start in range(0, len(images), columns)]
    text_heights = [max(_text_height(wrapped[index], small) for index in line) for line in lines]
    width = 2 * _MARGIN + columns * tile + (columns - 1) * _GAP
    heading = _wrap(title, ImageFont.load_default(_TITLE_SIZE), width - 2 * _MARGIN)
    top = _MARGIN + _heading_height(heading)
    height = top + sum(tile + extra + _GAP for extra in text_heights) - _GAP + _MARGIN
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    _write(draw, (_MARGIN, _MARGIN), heading, ImageFont.load_default(_TITLE_SIZE), _INK)
    y = top
    for line, text_height in zip(lines, text_heights, strict=True):
        for place, index in enumerate(line):
            x = _MARGIN + place * (tile + _GAP)
            _paste(sheet, images[index], (x, y), tile)
            _write(draw, (x, y + tile + 6), wrapped[index], small, _GREY)
        y += tile + text_height + _GAP
    return encode_png(sheet)


def comparison_sheet(
    rows: Sequence[Row], column_labels: Sequence[str], title: str = "", tile: int = 192, label_width: int = 150
) -> bytes:
    """Rows such as references, bare base and fine-tune against columns such as scenes; the sheet as PNG bytes."""
    assert rows and column_labels, "a sheet needs rows and columns"
    assert all(len(row.images) <= len(column_labels) for row in rows), "a row has at most one picture per column"
    text, large = ImageFont.load_default(_TEXT_SIZE), ImageFont.load_default(_TITLE_SIZE)
    left = _MARGIN + label_width + _GAP
    width = left + len(column_labels) * (tile + _GAP) - _GAP + _MARGIN
    heading = _wrap(title, large, width - 2 * _MARGIN)
    headers = [_wrap(label, text, tile) for label in column_labels]
    labels = [_wrap(row.label, text, label_width) for row in rows]
    heights = [max(tile, _text_height(label, text)) for label in labels]
    header_top = _MARGIN + _heading_height(heading)
    top = header_top + max(_text_height(header, text) for header in headers) + 8
    sheet = Image.new("RGB", (width, top + sum(heights) + 2 * _GAP * (len(rows) - 1) + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(sheet)
    _write(draw, (_MARGIN, _MARGIN), heading, large, _INK)
    for number, header in enumerate(headers):
        _write(draw, (left + number * (tile + _GAP), header_top), header, text, _INK)
    y = top
    for row, label, height in zip(rows, labels, heights, strict=True):
        if y > top:
            draw.line((_MARGIN, y - _GAP, width - _MARGIN, y - _GAP), fill=_RULE)
        _write(draw, (_MARGIN, y), label, text, _GREY)
        for number, picture in enumerate(row.images):
            if picture is not None:
                _paste(sheet, picture, (left + number * (tile + _GAP), y), tile)
        y += height + 2 * _GAP
    return encode_png(sheet)


def _paste(sheet: Image.Image, picture: bytes, corner: tuple[int, int], tile: int) -> None:
    """The whole picture, centred in its square: enlarged smoothly, never cropped."""
    image = open_png(picture)
    factor = tile / max(image.size)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    image = image.resize(size, Image.Resampling.LANCZOS)
    sheet.paste(image, (corner[0] + (tile - size[0]) // 2, corner[1] + (tile - size[1]) // 2))


def _wrap(text: str, font: Font, width: int) -> list[str]:
    """``text`` as lines no wider than ``width`` pixels; too long a word is broken, at a "_", "-" or "/" if it can."""
    lines: list[str] = []
    for word in text.split():
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(joined) <= width:
            lines[-1] = joined
            continue
        rest = word
        while font.getlength(rest) > width and len(rest) > 1:
            fits = max(1, sum(font.getlength(rest[: end + 1]) <= width for end in range(len(rest))))
            fits = max(rest.rfind(mark, 0, fits) + 1 for mark in "_-/") or fits
            lines.append(rest[:fits])
            rest = rest[fits:]
        lines.append(rest)
    return lines


def _line_height(font: Font) -> int:
    box = font.getbbox("Ågjy|")
    return round(box[3] * 1.25)


def _text_height(lines: Sequence[str], font: Font) -> int:
    return len(lines) * _line_height(font) + (8 if lines else 0)


def _heading_height(lines: Sequence[str]) -> int:
    return len(lines) * _line_height(ImageFont.load_default(_TITLE_SIZE)) + (12 if lines else 0)


def _write(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], lines: Sequence[str], font: Font, colour: tuple[int, int, int]
) -> None:
    for number, line in enumerate(lines):
        draw.text((corner[0], corner[1] + number * _line_height(font)), line, font=font, fill=colour)
