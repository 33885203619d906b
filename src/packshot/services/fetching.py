"""Use case of reference photos on servers of other people: fetch them, to be taken in as files are."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote, urlsplit

from packshot.domain.errors import AddressRefused, InvalidInput, UploadRefused
from packshot.domain.prompts import check_caption
from packshot.domain.urls import MAX_URL_LENGTH, check_url
from packshot.imaging.decode import MAX_FILE_BYTES
from packshot.imaging.folders import Photo
from packshot.imaging.uploads import check_file_name
from packshot.ports import Fetcher

MAX_URLS = 30
MAX_AT_ONCE = 6
MAX_TOTAL_S = 60.0
"""When so much time has passed no further photo is begun; one that was may last for as long as a fetch does."""


def fetch_photos(
    fetcher: Fetcher,
    urls: Sequence[str],
    folder: Path,
    captions: Mapping[str, str],
    *,
    clock: Callable[[], float] = time.monotonic,
) -> list[Photo]:
    """The photos at ``urls``, each once, as files in ``folder``; one that cannot be fetched is ``missing``.

    So is one that others kept from being begun within MAX_TOTAL_S. ``clock`` gives seconds.

    ``captions`` are by URL. A photo is called what its URL ends in, with its number before it where two are called the
    same.

    Raises:
        InvalidInput: no URL of a picture, more than MAX_URLS, or a caption that cannot be one or is for none of them.
    """
    different = [check_url(url, of="a picture", max_length=MAX_URL_LENGTH) for url in dict.fromkeys(urls)]
    if len(different) > MAX_URLS:
        raise InvalidInput(f"{len(different)} URLs are more than the {MAX_URLS} that are fetched at once; send fewer")
    if strays := [url for url in captions if url not in different]:
        raise InvalidInput(f"there is a caption for {strays[0]!r}, which is none of the URLs")
    captions = {url: check_caption(" ".join(text.split())) for url, text in captions.items()}
    names = _names(different)
    ends_at = clock() + MAX_TOTAL_S

    def fetch(url: str) -> Photo:
        path, caption = folder / names[url], captions.get(url, "")
        if clock() >= ends_at:
            late = f"{url} was not begun within {MAX_TOTAL_S:.0f} s, as others were slow; send it again, with fewer"
            return Photo(path=path, caption=caption, url=url, missing=late)
        try:
            path.write_bytes(fetcher.fetch(url, MAX_FILE_BYTES + 1))
        except AddressRefused as refusal:
            return Photo(path=path, caption=caption, url=url, missing=f"{url} gives no picture: {refusal}")
        return Photo(path=path, caption=caption, url=url)

    with ThreadPoolExecutor(max_workers=MAX_AT_ONCE, thread_name_prefix="fetch") as pool:
        return list(pool.map(fetch, different))


def _names(urls: Sequence[str]) -> dict[str, str]:
    """A file name for each URL, all different."""
    names: dict[str, str] = {}
    for number, url in enumerate(urls, start=1):
        name = unquote(urlsplit(url).path.rpartition("/")[2])
        try:
            check_file_name(name)
        except UploadRefused:
            name = "photo"
        while name in names.values():
            name = f"{number:02}-{name}"
        names[url] = name
    return names
