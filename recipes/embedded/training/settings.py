"""Where the recipe reads and writes, and one section of config.yaml at a time.

Knows the folder layout of the recipe; does not know what any section means.
"""

import os
from pathlib import Path

import yaml

RECIPE = Path(__file__).resolve().parents[1]
REPOSITORY = RECIPE.parents[1]
PACKAGED = REPOSITORY / "src/packshot/embedded/weights/base"


def work_folder() -> Path:
    """The folder for everything made on the way (PACKSHOT_RECIPE_WORK)."""
    default = Path.home() / ".cache/packshot/recipes/embedded"
    folder = Path(os.environ.get("PACKSHOT_RECIPE_WORK", default)).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def grocery_folder() -> Path:
    """The folder of store photos with its metadata.jsonl (PACKSHOT_GROCERY)."""
    folder = Path(os.environ.get("PACKSHOT_GROCERY", REPOSITORY.parent / "shared/data/grocery")).expanduser()
    if not (folder / "metadata.jsonl").is_file():
        raise FileNotFoundError(f"no store photos at {folder}: set PACKSHOT_GROCERY to the folder with metadata.jsonl")
    return folder


def section(name: str) -> dict:
    """One section of config.yaml; `seed` is a plain number."""
    settings = yaml.safe_load((RECIPE / "config.yaml").read_text())
    if name not in settings:
        raise KeyError(f"config.yaml has no section {name!r}; it has {sorted(settings)}")
    return settings[name]
