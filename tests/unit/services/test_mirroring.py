import io
from collections.abc import Sequence

import numpy as np
from fake_models import ColourJudge
from PIL import Image

from packshot.domain.evaluation import Embedding
from packshot.domain.training_choices import HorizontalFlip
from packshot.imaging.pixels import encode_png
from packshot.ports import TrainingExample
from packshot.services.mirroring import flip_for

SIZE = 16
LEFT_HALF = encode_png(Image.fromarray(np.repeat([[255] * 8 + [0] * 8], SIZE, axis=0).astype(np.uint8)))


class ProductColour(ColourJudge):
    """Sees the mean colour within the mask; of a picture without one that of its left half, as a label has a side."""

    def embed(self, images: Sequence[bytes], masks: Sequence[bytes | None]) -> list[Embedding]:
        seen = [np.asarray(Image.open(io.BytesIO(image)))[of(mask)] for image, mask in zip(images, masks, strict=True)]
        return super().embed([encode_png(Image.fromarray(pixels[None])) for pixels in seen], [None] * len(seen))


def of(mask: bytes | None) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(mask or LEFT_HALF)).convert("L")) > 127


def two_halves(
    shade: int, *, left: tuple[int, int, int], right: tuple[int, int, int], mask: bytes | None
) -> TrainingExample:
    pixels = np.zeros((SIZE, SIZE, 3), np.uint8)
    pixels[:, : SIZE // 2], pixels[:, SIZE // 2 :] = left, right
    return TrainingExample(image=encode_png(Image.fromarray(pixels + np.uint8(shade))), caption="", mask=mask)


def photos(mask: bytes | None = None, right: tuple[int, int, int] = (0, 0, 200)) -> list[TrainingExample]:
    return [two_halves(shade, left=(200, 0, 0), right=right, mask=mask) for shade in (0, 20, 40)]


def test_a_product_with_two_sides_is_not_mirrored():
    assert flip_for(ProductColour(), photos()) is HorizontalFlip.OFF


def test_a_product_that_is_the_same_in_a_mirror_is_mirrored():
    assert flip_for(ProductColour(), photos(right=(200, 0, 0))) is HorizontalFlip.ON


def test_the_mask_is_mirrored_with_its_photo_so_that_what_is_around_the_product_does_not_count():
    assert flip_for(ProductColour(), photos(mask=LEFT_HALF)) is HorizontalFlip.ON


def test_a_single_photo_tells_nothing():
    assert flip_for(ProductColour(), photos(right=(200, 0, 0))[:1]) is HorizontalFlip.OFF
