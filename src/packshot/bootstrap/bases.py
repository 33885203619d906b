"""Base models, with diffusers, and the bundled one among them."""

from typing import TYPE_CHECKING

from packshot.settings import Settings

if TYPE_CHECKING:
    from packshot.diffusion.bases import DiffusersBaseModels


def diffusers_bases(settings: Settings) -> "DiffusersBaseModels":
    """Finds and examines base models; remembers digests of files in the workspace."""
    from packshot.diffusion.bases import DiffusersBaseModels
    from packshot.digests import FileDigests
    from packshot.embedded.bundle import bundled_base

    digests = FileDigests(settings.home.absolute() / "cache" / "digests.json")
    return DiffusersBaseModels(embedded=bundled_base, digests=digests, device=settings.device)
