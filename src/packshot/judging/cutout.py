"""A picture as the embedder should see it: whole, or the product alone. Does not know any model."""

import io

import numpy as np
from PIL import Image

_GREY = 128
_MARGIN = 0.1


def cut_out(image: Image.Image, mask_png: bytes) -> Image.Image:
    """The product on mid grey (128), cropped to its bounding box with a margin of a tenth and padded to a square.

    ``mask_png`` is an 8-bit grey PNG of the size of ``image``, product = 255. A mask that marks nothing leaves the
    whole picture, since an embedding of plain grey would say nothing of it.
    """
    with Image.open(io.BytesIO(mask_png), formats=["PNG"]) as opened:
        mask = opened.convert("L")
    assert mask.size == image.size, "a mask has the size of its picture"
    rows, columns = np.nonzero(np.asarray(mask) >= 128)
    if rows.size == 0:
        return image
    left, right, top, bottom = columns.min(), columns.max() + 1, rows.min(), rows.max() + 1
    alone = Image.composite(image, Image.new("RGB", image.size, (_GREY,) * 3), mask)
    edge = round(max(right - left, bottom - top) * (1 + 2 * _MARGIN))
    square = Image.new("RGB", (edge, edge), (_GREY,) * 3)
    square.paste(alone, ((edge - int(left + right)) // 2, (edge - int(top + bottom)) // 2))
    return square
