"""Several processes that a launcher started to share a training."""

import os
import signal

from packshot.bootstrap.bases import diffusers_bases
from packshot.settings import Settings


def launched() -> tuple[int, int]:
    """The number of this process among those that accelerate's launcher or torchrun started, and how many they are."""
    if "RANK" not in os.environ:
        return 0, 1
    return int(os.environ["RANK"]), int(os.environ.get("WORLD_SIZE", "1"))


def follow(settings: Settings) -> None:
    """Share the trainings of the first of the launched processes, until it has no more.

    Raises:
        ProcessLost: another process has ended.
    """
    from packshot.diffusion.followers import follow
    from packshot.diffusion.launched import Launched

    processes = Launched(settings.device)
    for each in (signal.SIGINT, signal.SIGTERM):  # the leader gets them too, and says when to end
        signal.signal(each, signal.SIG_IGN)
    follow(diffusers_bases(settings), processes)
