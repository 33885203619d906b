"""Packshot keeps a fine-tuned text-to-image model per product category and serves them all by name."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packshot.client import AsyncClient, Client
    from packshot.engine import Engine

__all__ = ["AsyncClient", "Client", "Engine", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Clients and engine, imported when they are asked for: the command line starts without them."""
    if name == "Engine":
        from packshot.engine import Engine

        return Engine
    if name in ("AsyncClient", "Client"):
        from packshot import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
