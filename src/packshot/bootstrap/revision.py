"""Which code this is."""

import subprocess
from functools import cache
from pathlib import Path

from packshot import __version__


@cache
def code_revision() -> str:
    """The version, with the commit where this is a checkout: ``0.1.0+git.1a2b3c4`` (``.dirty`` when changed)."""
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return __version__
    try:
        described = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty=.dirty", "--abbrev=12", "--exclude=*"],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:  # no git on this machine
        return __version__
    return f"{__version__}+git.{described.stdout.strip()}" if described.returncode == 0 else __version__
