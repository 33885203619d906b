"""Photos sent under names, and fetched from URLs, that are paths to elsewhere. Does not know what lies there."""

import io
import stat
import zipfile
from collections.abc import Sequence

from api import IDENTIFIER, Platform
from httpx2 import Response
from photos import photo as photo_of

from packshot.imaging.pixels import encode_png

PLAIN = ("$HOME", "~root")  # names like any other, where no shell reads them
# What a photo may come by: multipart's parser cuts off a folder of Windows, and archives have folders of their own.
TAKEN = {"name": (*PLAIN, "C:\\canary.txt"), "entry": (*PLAIN, "link/canary.txt", "{folder}/canary.txt")}


def photos_by(paths: Sequence[str], platform: Platform, secret: str) -> list[str]:
    """A good photo by each name, alone and in an archive; a link there; the path as a URL: what was not refused."""
    platform.call("POST", "/v1/categories", json={"path": "apple/fuji", "class_noun": "apple"}, status=201)
    route = f"/v1/categories/{IDENTIFIER}/references"
    photo = encode_png(photo_of(0))
    outcomes: list[str] = []
    for bad in paths:
        name = f"{bad}.png"
        uploads = [
            ("name", name, photo),
            ("entry", "all.zip", _archive(name, photo)),
            ("link", "all.zip", _archive("1.png", bad.encode(), link=True)),
        ]
        for what, sent_as, data in uploads:
            reply = platform.client.post(route, files=[("files", (sent_as, data))], headers=platform.key("train"))
            taken = bad in TAKEN.get(what, ()) and reply.status_code == 201
            outcomes.append("" if taken else _refusal(f"{bad!r} as {what}", reply, secret))
        for url in (bad, f"file://{bad}", f"file:///{bad}", f"https://127.0.0.1/{bad}"):
            body = {"urls": [url]}
            reply = platform.client.post(f"{route}/urls", json=body, headers=platform.key("train"))
            outcomes.append(_refusal(f"{url!r} as a URL", reply, secret))
    return outcomes


def _refusal(what: str, reply: Response, secret: str) -> str:
    refused = reply.status_code == 201 and all(each["refusal"] for each in reply.json())
    if (400 <= reply.status_code < 500 or refused) and secret not in reply.text:
        return ""
    return f"{what}: {reply.status_code} {reply.text[:200]}"


def _archive(name: str, data: bytes, *, link: bool = False) -> bytes:
    buffer = io.BytesIO()
    entry = zipfile.ZipInfo("1.png")
    entry.filename = name  # the constructor would cut it off at a NUL
    entry.external_attr = (stat.S_IFLNK if link else stat.S_IFREG) << 16
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(entry, data)
    return buffer.getvalue()
