"""The curation checks on made pictures, and their published rates on the store photos where these are at hand."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from packshot.domain.errors import RefusalReason
from packshot.imaging.curation import check_photo, fingerprint, similar
from packshot.imaging.pixels import encode_png

STORE_PHOTOS = Path(__file__).parents[4] / "shared" / "data" / "grocery"
Change = Callable[[Image.Image], Image.Image]


def packshot(seed: int, edge: int = 256, ground: tuple[int, int, int] = (255, 255, 255)) -> Image.Image:
    """A shaded, freckled ball on a plain ground."""
    rng = np.random.default_rng(seed)
    size = 2 * edge
    freckles = Image.fromarray(rng.integers(0, 255, (12, 12, 3), dtype=np.uint8)).resize((size, size))
    skin = Image.blend(Image.new("RGB", (size, size), (190, 40, 40)), freckles, 0.35)
    down, across = np.mgrid[0:size, 0:size] / size - 0.4
    shade = np.clip(1.2 - np.hypot(down, across), 0.3, 1)[..., None]
    ball = Image.fromarray((np.asarray(skin) * shade).astype(np.uint8))
    outline = Image.new("L", (size, size))
    x, y = size * (0.5 + rng.uniform(-0.06, 0.06, 2))
    radius = size * rng.uniform(0.27, 0.36)
    ImageDraw.Draw(outline).ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    page = Image.composite(ball, Image.new("RGB", (size, size), ground), outline)
    return page.resize((edge, edge), Image.Resampling.LANCZOS)


def scene(seed: int, edge: int = 256) -> Image.Image:
    """Many discs of many colours, as fruit in a crate."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (2 * edge, 2 * edge), (90, 70, 50))
    draw = ImageDraw.Draw(image)
    for _ in range(150):
        x, y, radius = (float(value) for value in rng.uniform((0, 0, 20), (2 * edge, 2 * edge, 70)))
        red, green, blue = (int(value) for value in rng.integers(30, 210, 3))
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(red, green, blue))
    return image.resize((edge, edge), Image.Resampling.LANCZOS)


def reason(image: Image.Image, **options: int) -> RefusalReason | None:
    found = check_photo(encode_png(image), **options)
    assert found is None or found[1], "a reason comes with words"
    return found and found[0]


def jpeg(quality: int) -> Change:
    def change(image: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        with Image.open(buffer) as opened:
            return opened.convert("RGB")

    return change


def blur(radius: float) -> Change:
    return lambda image: image.filter(ImageFilter.GaussianBlur(radius))


def brighten(factor: float) -> Change:
    return lambda image: ImageEnhance.Brightness(image).enhance(factor)


def crop(share: float) -> Change:
    def change(image: Image.Image) -> Image.Image:
        width, height = image.size
        box = (round(width * share), round(height * share * 0.7), width, round(height * (1 - share * 0.3)))
        return image.crop(box).resize(image.size, Image.Resampling.LANCZOS)

    return change


def scale(factor: float) -> Change:
    return lambda image: image.resize((round(image.width * factor), round(image.height * factor)))


def noise(deviation: float) -> Change:
    def change(image: Image.Image) -> Image.Image:
        grain = np.random.default_rng(0).normal(0, deviation, (image.height, image.width, 1))
        return Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))

    return change


def prints(images: list[Image.Image], change: Change = lambda image: image) -> list[str]:
    return [fingerprint(encode_png(change(image))) for image in images]


@pytest.mark.parametrize("edge", [128, 256, 400])
@pytest.mark.parametrize("make", [packshot, scene])
def test_good_photos_pass_at_any_size(make: Any, edge: int) -> None:
    assert [reason(make(seed, edge)) for seed in range(3)] == [None] * 3


@pytest.mark.parametrize("edge", [128, 256, 400])
@pytest.mark.parametrize("make", [packshot, scene])
def test_blur_is_found_at_any_size(make: Any, edge: int) -> None:
    blurred = [reason(blur(edge / 64)(make(seed, edge))) for seed in range(3)]
    assert blurred == [RefusalReason.BLURRED] * 3


@pytest.mark.parametrize("after", [jpeg(75), noise(3)], ids=["jpeg", "noise"])
def test_noise_and_compression_do_not_hide_blur(after: Change) -> None:
    assert reason(after(blur(4)(scene(0)))) is RefusalReason.BLURRED


def test_a_plain_picture_shows_nothing() -> None:
    assert reason(Image.new("RGB", (256, 256), (120, 110, 100))) is RefusalReason.BLURRED


def test_the_least_size_can_be_chosen() -> None:
    assert reason(scene(0, 127)) is RefusalReason.TOO_SMALL
    assert reason(scene(0, 200), min_edge=512) is RefusalReason.TOO_SMALL
    assert reason(scene(0, 100), min_edge=96) is None


@pytest.mark.parametrize("ground", [(255, 255, 255), (0, 0, 0), (245, 244, 240), (8, 8, 10)])
def test_a_plain_white_or_black_ground_is_not_bad_exposure(ground: tuple[int, int, int]) -> None:
    assert reason(packshot(1, ground=ground)) is None


def test_bad_exposure_is_found() -> None:
    assert reason(brighten(4)(scene(1))) is RefusalReason.OVEREXPOSED
    assert reason(brighten(0.2)(scene(1))) is RefusalReason.UNDEREXPOSED
    assert reason(Image.new("RGB", (256, 256), (255, 255, 255))) is RefusalReason.OVEREXPOSED
    assert reason(Image.new("RGB", (256, 256))) is RefusalReason.UNDEREXPOSED
    assert reason(Image.blend(packshot(0), Image.new("RGB", (256, 256), "white"), 0.93)) is RefusalReason.OVEREXPOSED


@pytest.mark.parametrize("make", [packshot, scene])
@pytest.mark.parametrize(
    "change",
    [jpeg(20), scale(0.33), scale(2), brighten(1.2), crop(0.03), lambda image: jpeg(60)(scale(0.6)(crop(0.03)(image)))],
    ids=["jpeg 20", "a third", "double", "brighter", "cropped", "all"],
)
def test_changed_copies_are_similar(make: Any, change: Change) -> None:
    images = [make(seed) for seed in range(4)]
    assert all(similar(*pair) for pair in zip(prints(images), prints(images, change), strict=True))


def test_different_photos_are_not_similar() -> None:
    found = prints([scene(seed) for seed in range(6)] + [packshot(seed) for seed in range(6)])
    assert [(a, b) for a in range(12) for b in range(a) if similar(found[a], found[b])] == []


@pytest.mark.skipif(not STORE_PHOTOS.is_dir(), reason="the store photos are not on this machine")
def test_rates_on_store_photos() -> None:
    images = [Image.open(path).convert("RGB") for path in sorted(STORE_PHOTOS.rglob("*.jpg"))[::94]]
    assert len(images) >= 20
    assert [reason(image) for image in images].count(None) >= 0.98 * len(images)
    assert [reason(blur(4)(image)) for image in images].count(RefusalReason.BLURRED) == len(images)
    as_they_are = prints(images)
    caught = [similar(*pair) for pair in zip(as_they_are, prints(images, crop(0.03)), strict=True)]
    assert sum(caught) >= 0.98 * len(images)
    pairs = [(a, b) for place, a in enumerate(as_they_are) for b in as_they_are[:place]]
    assert sum(similar(*pair) for pair in pairs) <= 0.001 * len(pairs)
