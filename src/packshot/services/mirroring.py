"""Use case: whether a training mirrors its photos, where its configuration leaves that to the judge."""

from collections.abc import Sequence

from packshot.domain.mirroring import choose_flip
from packshot.domain.training_choices import HorizontalFlip
from packshot.imaging.pixels import mirrored
from packshot.ports import Judge, TrainingExample


def flip_for(judge: Judge, examples: Sequence[TrainingExample]) -> HorizontalFlip:
    """What ``auto`` stands for: ``on`` or ``off``, by what ``judge`` sees of the photos, within their masks, and of their mirror images.

    Raises:
        JudgeUnusable: it cannot be found or loaded.
    """
    images, masks = [each.image for each in examples], [each.mask for each in examples]
    return choose_flip(
        judge.embed(images, masks),
        judge.embed([mirrored(image) for image in images], [mask and mirrored(mask) for mask in masks]),
    )
