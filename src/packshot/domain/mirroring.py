"""Whether a product may be mirrored: an explicit rule over what a judge sees. Does not know how pictures are mirrored."""

from collections.abc import Sequence
from itertools import combinations
from statistics import fmean

from packshot.domain.evaluation import Embedding, cosine
from packshot.domain.training_choices import HorizontalFlip

# How far photos may lie from their mirror images, as a share of how far photos of the product lie from each other. Measured
# with the bundled judge (docs/log.md): in store photos all packages lie above it, and produce with two exceptions below.
MAX_SHARE = 0.1


def choose_flip(photos: Sequence[Embedding], mirrored: Sequence[Embedding]) -> HorizontalFlip:
    """``on`` if the mirror images, in the order of ``photos``, are alike enough; a single photo tells nothing, so ``off``.

    >>> choose_flip([(1.0, 0.0), (0.6, 0.8)], [(1.0, 0.0), (0.6, 0.8)])
    <HorizontalFlip.ON: 'on'>
    >>> choose_flip([(1.0, 0.0), (0.6, 0.8)], [(0.8, 0.6), (0.0, 1.0)])
    <HorizontalFlip.OFF: 'off'>
    """
    apart = [1 - cosine(left, right) for left, right in combinations(photos, 2)]
    from_mirror = fmean(1 - cosine(left, right) for left, right in zip(photos, mirrored, strict=True))
    return HorizontalFlip.ON if apart and from_mirror < MAX_SHARE * fmean(apart) else HorizontalFlip.OFF
