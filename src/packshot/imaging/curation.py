"""Whether a decoded photo is a good reference: size, sharpness, exposure, and whether it repeats another one.

Bounds were measured on the 2,355 store photos of Klasson et al. (256 x 256, phone, JPEG), see each function. Does not
know what the photo shows; that needs a judge.
"""

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from packshot.domain.errors import RefusalReason
from packshot.imaging.pixels import open_png

DEFAULT_MIN_EDGE = 128

_WORKING_EDGE = 256
_TILE = 16
_MIN_SHARPNESS = 0.33
_HASH_SIZE = 12
_MAX_HASH_DISTANCE = 60
_MAX_BURNED_SHARE = 0.35
_NEAR_WHITE = 250

Grey = NDArray[np.floating]


def check_photo(png: bytes, min_edge: int = DEFAULT_MIN_EDGE) -> tuple[RefusalReason, str] | None:
    """Why the photo in ``png`` should not be learnt from and how to mend it, or None where it is good.

    ``min_edge`` is the least length of its shorter side in pixels; a base's resolution is a sensible value. None of
    the 2,355 store photos is flagged; the bounds were chosen on these very photos, so expect a few elsewhere.
    """
    image = open_png(png)
    if min(image.size) < min_edge:
        return (
            RefusalReason.TOO_SMALL,
            f"it is {image.width} x {image.height} pixels and needs {min_edge} on its shorter side; "
            "use the original instead of a thumbnail",
        )
    small = _reduced(image)
    grey = _luminance(small)
    # The middle channel: a bright yellow lemon burns two of the three, which its luminance does not show.
    channels = np.asarray(small, dtype=np.float32)
    bright = _burned_out(np.median(channels, axis=2), channels.min(axis=2))
    dark = _burned_out(255 - grey, 255 - channels.max(axis=2))
    if dark:
        return RefusalReason.UNDEREXPOSED, f"{dark.replace('white', 'black')}; take it again with more light"
    if bright:
        return RefusalReason.OVEREXPOSED, f"{bright}; take it again with less light"
    value = _sharpness(grey)
    if value < _MIN_SHARPNESS:
        return (
            RefusalReason.BLURRED,
            f"its sharpness is {value:.2f} and must be {_MIN_SHARPNESS} or more; hold still, focus on the product",
        )
    return None


def fingerprint(png: bytes) -> str:
    """72 hexadecimal digits that stay nearly the same when the photo is scaled, compressed or slightly cropped.

    A DCT hash and a gradient hash of 144 bits each (imagehash ``phash`` and ``dhash``). Exact duplicates need no
    fingerprint: equal pixels have equal PNG bytes after ``decode_reference``.
    """
    image = open_png(png)
    return f"{imagehash.phash(image, hash_size=_HASH_SIZE)}{imagehash.dhash(image, hash_size=_HASH_SIZE)}"


def similar(fingerprint_a: str, fingerprint_b: str) -> bool:
    """Whether two fingerprints belong to near-duplicates: at most 60 of 288 bits differ.

    Of 400 store photos this catches every copy saved at JPEG quality 20, scaled to a third, brightened by 20 % or
    cropped by 3 %, and of those cropped by 4 % and 5 % it catches 94 % and 48 %. Of 2.7 million pairs of different
    varieties it calls none similar; of 45,513 pairs within a variety 27: by eye all one product before one shelf,
    but in about a third of them the carton was turned, so that a useful view is lost. Of 780 pairs of different
    made-up balls on white it calls 15 similar; 64-bit hashes at 24 of 128 bits 44, for 85 % of the 5 % crops.
    """
    return (int(fingerprint_a, 16) ^ int(fingerprint_b, 16)).bit_count() <= _MAX_HASH_DISTANCE


def _reduced(image: Image.Image) -> Image.Image:
    """``image`` with a shorter side of at most 256 px."""
    factor = _WORKING_EDGE / min(image.size)
    if factor >= 1:
        return image
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(size, Image.Resampling.BOX)


def _luminance(image: Image.Image) -> Grey:
    """(height, width), 0 to 255."""
    return np.asarray(image.convert("L"), dtype=np.float32)


def _sharpness(grey: Grey) -> float:
    """How sharp the strongest edges of the photo are: about 0.15 (Gaussian blur of 4 px at 256 px) to 1.

    The median, over the eighth of the 16 x 16 tiles with the strongest gradients, of root mean square Laplacian by
    root mean square gradient, at a shorter side of at most 256 px and after a binomial filter against noise and
    block edges. Unlike the variance of the Laplacian (Pech-Pacheco et al. 2000) it does not depend on how much of
    the picture is plain, so a product on white is not called blurred.

    All store photos: 0.33 (minimum), 0.49 (0.5 %), 0.66 (median). Blurred by 3 px at most 0.31, by 4 px 0.24, by
    4 px with noise of deviation 3 or JPEG quality 75 on top 0.27. So the bound of 0.33 flags none of the photos as
    they are, all of them from 3 px, and about two in three at 2 px.
    """
    grey = _smoothed(grey)
    laplacian = grey[1:-1, :-2] + grey[1:-1, 2:] + grey[:-2, 1:-1] + grey[2:, 1:-1] - 4 * grey[1:-1, 1:-1]
    across = (grey[1:-1, 2:] - grey[1:-1, :-2]) / 2
    down = (grey[2:, 1:-1] - grey[:-2, 1:-1]) / 2
    curvature = _tile_means(laplacian**2) ** 0.5
    gradient = _tile_means(across**2 + down**2) ** 0.5
    strongest = np.argsort(gradient)[-max(4, len(gradient) // 8) :]
    # The 1 keeps the noise of plain tiles from passing for sharpness.
    return float(np.median(curvature[strongest] / (gradient[strongest] + 1)))


def _smoothed(grey: Grey) -> Grey:
    """``grey`` under a binomial filter of deviation 1 px, two pixels smaller at each side."""
    for _ in range(2):
        grey = (grey[:-2] + 2 * grey[1:-1] + grey[2:]) / 4
        grey = (grey[:, :-2] + 2 * grey[:, 1:-1] + grey[:, 2:]) / 4
    return grey


def _tile_means(values: Grey) -> Grey:
    """The mean of each whole tile of ``values`` (height, width), as (tiles,)."""
    height, width = (max(1, length // _TILE) for length in values.shape)
    tile_height, tile_width = min(_TILE, values.shape[0]), min(_TILE, values.shape[1])
    cut = values[: height * tile_height, : width * tile_width]
    return cut.reshape(height, tile_height, width, tile_width).mean(axis=(1, 3)).ravel()


def _burned_out(level: Grey, whiteness: Grey) -> str:
    """What says that ``level`` (height, width) is overexposed, or ""; underexposed is the same of 255 - luminance.

    ``whiteness`` is the least channel: a picture whose border is nearly white all around is a product on a white
    ground, and only the product counts.

    Store photos: at most 12 % of a photo's pixels are above 250; the darkest 5 % of a photo reach at most 96, the
    brightest 5 % at least 124. Made 2, 3, 4 times as bright, 45 %, 94 %, 96 % of them are flagged (the rest passes
    for a product on a white ground); made a quarter as bright, all.
    """
    border = np.concatenate([whiteness[0], whiteness[-1], whiteness[:, 0], whiteness[:, -1]])
    if (border >= _NEAR_WHITE - 10).mean() >= 0.9:
        product = level[level < _NEAR_WHITE - 10]
        if product.size < 0.005 * level.size:
            return "it is white all over"
        if np.percentile(product, 10) > 225:
            return "the product can hardly be told from its white ground"
        return ""
    burned = float((level >= _NEAR_WHITE).mean())
    if burned > _MAX_BURNED_SHARE:
        return f"{burned:.0%} of its pixels are plain white"
    if np.percentile(level, 5) > 191:
        return "nearly all of its pixels are close to white"
    return ""
