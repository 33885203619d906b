"""The digest that names the very weights of a judge. Does not load them."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from packshot.digests import sha256_of

READ_SUFFIXES = (".json", ".safetensors", ".txt")


def folder_digest(folders: Sequence[Path]) -> str:
    """sha256 over the sorted list of (place in ``folders``, file name, file sha256) of all that loading reads.

    Where the folders lie on disk does not matter, nor do the files of their subfolders.
    """
    entries = [
        (place, file.name, sha256_of(file))
        for place, folder in enumerate(folders)
        for file in sorted(folder.iterdir())
        if file.suffix in READ_SUFFIXES and file.is_file()
    ]
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()
