"""URLs that somebody else wrote, by their form. Where a name leads is checked whenever something is sent or fetched."""

from urllib.parse import urlsplit

from packshot.domain.errors import InvalidInput

MAX_URL_LENGTH = 2000


def check_url(url: str, *, of: str, max_length: int) -> str:
    """Return ``url`` if it may be that ``of`` something, such as "a webhook".

    Raises:
        InvalidInput: no http or https URL with a host, one with a user name, password or fragment, or a long one.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable, parts = False, urlsplit("")
    if not usable or parts.username or parts.password or parts.fragment or not url.isascii() or not url.isprintable():
        raise InvalidInput(f"{url[:200]!r} is no URL of {of}; write one such as https://shop.example/name")
    if len(url) > max_length or " " in url:
        raise InvalidInput(f"the URL of {of} has at most {max_length} characters and no spaces")
    return url
