"""Fault tests 16 and 17: bad images among good ones, and bombs, at the route that takes photos in."""

import io
import random
import struct
import time
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from api import Platform, platform_in
from bad_images import (
    animation,
    bmp_of_header,
    encoded,
    picture,
    png_chunk,
    png_of_header,
    tiled_tiff,
    webp_of_header,
    zip_bytes,
)
from photos import photo
from PIL import Image

from faults.registry import Check, Setting, fault
from packshot.domain.errors import RefusalReason

Make = Callable[[random.Random], bytes]
MOST_S, BOMB_S = 5.0, 2.0
BOMB_BYTES = 256 * 2**20
TAKEN = "taken in"
ANY = frozenset([TAKEN, *RefusalReason])
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP")


@dataclass(frozen=True, kw_only=True)
class Told:
    """What became of an upload: its status, the finding on the bad file and on the good ones beside it."""

    status: int
    text: str
    bad: str
    good: tuple[str, ...]
    seconds: float


class Uploads:
    """Uploads of one file between two good photos, each to a category of its own."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._number = 0
        self._good = [(f"good-{seed}.png", encoded(photo(seed))) for seed in (1, 2)]

    def send(self, name: str, data: bytes) -> Told:
        self._number += 1
        body = {"path": f"apple/k{self._number}", "class_noun": "apple"}
        identifier = self._platform.call("POST", "/v1/categories", json=body, status=201)["identifier"]
        headers = self._platform.key("train")
        start = time.perf_counter()
        reply = self._platform.client.post(
            f"/v1/categories/{identifier}/references",
            files=[("files", each) for each in (self._good[0], (name, data), self._good[1])],
            headers=headers,
        )
        seconds = time.perf_counter() - start
        rows = reply.json() if reply.status_code == 201 else []
        found = {row["file_name"]: row["refusal"] or TAKEN for row in rows}
        good = tuple(found.pop(each, "missing") for each, _ in self._good)
        return Told(
            status=reply.status_code,
            text=reply.text[:300],
            bad=" ".join(found.values()) or "missing",
            good=good,
            seconds=seconds,
        )


def _photo(chance: random.Random) -> Image.Image:
    return photo(chance.randrange(10, 10**9))


def _rotated(chance: random.Random) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = chance.randint(2, 8)
    return encoded(_photo(chance), "JPEG", exif=exif)


def _sixteen_bits(chance: random.Random) -> bytes:
    grey = np.asarray(_photo(chance).convert("L")).astype(np.uint16) * 257
    return encoded(Image.fromarray(grey), chance.choice(["PNG", "TIFF"]))


def _truncated(chance: random.Random) -> bytes:
    noise = np.random.default_rng(chance.randrange(10**9)).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), chance.choice(["JPEG", "PNG", "WEBP", "BMP"]))
    return data[: int(len(data) * chance.uniform(0.4, 0.95))]


def _damaged(chance: random.Random) -> bytes:
    data = bytearray(encoded(_photo(chance), chance.choice([*FORMATS, "GIF"])))
    for _ in range(chance.randint(1, 8)):
        data[chance.randrange(min(len(data), chance.choice([64, 512, 10**9])))] = chance.randrange(256)
    return bytes(data)


KINDS: dict[str, tuple[Make, frozenset[str]]] = {
    "truncated": (_truncated, frozenset([RefusalReason.TRUNCATED])),
    "CMYK": (lambda chance: encoded(_photo(chance).convert("CMYK"), "JPEG"), frozenset([TAKEN])),
    "16 bits": (_sixteen_bits, frozenset([TAKEN])),
    "rotated by EXIF": (_rotated, frozenset([TAKEN])),
    "animated": (
        lambda chance: animation(chance.choice(["GIF", "WEBP", "PNG", "TIFF"])),
        frozenset([RefusalReason.ANIMATED]),
    ),
    "polyglot": (lambda chance: encoded(_photo(chance), "JPEG") + zip_bytes(), frozenset([TAKEN])),
    "empty": (lambda _: b"", frozenset([RefusalReason.UNREADABLE])),
    "mislabelled": (lambda chance: encoded(_photo(chance), chance.choice(FORMATS)), frozenset([TAKEN])),
    "no picture": (
        lambda chance: chance.choice([b"no photo\n" * 50, b"%PDF-1.7\n" + bytes(100), bytes(range(256)), zip_bytes()]),
        frozenset([RefusalReason.UNSUPPORTED_FORMAT]),
    ),
    "damaged": (_damaged, ANY),
}


@fault(16, "bad images", passes="no crash; none over 5 s; a typed reason each; good siblings unaffected")
def bad_images(setting: Setting) -> list[Check]:
    """Each kind of unusual or bad file, under any image's name, between two good photos."""
    chance = random.Random(setting.seed)
    num_each = 2 if setting.quick else 40
    told: list[tuple[str, Told, bool]] = []
    for platform in platform_in(setting.workdir, requests_per_minute=1_000_000):
        uploads = Uploads(platform)
        for kind, (make, allowed) in KINDS.items():
            for number in range(num_each * (10 if kind == "damaged" else 1)):
                name = f"bad.{chance.choice(['jpg', 'jpeg', 'png', 'webp', 'tif', 'gif', 'bmp'])}"
                answer = uploads.send(name, make(chance))
                told.append((f"{kind} {number} as {name}", answer, answer.bad in allowed))
    return [
        _check("no crash", [(what, each.text, each.status == 201) for what, each, _ in told]),
        _check("taken in, or the reason that is right for it", [(what, each.bad, fits) for what, each, fits in told]),
        _check(
            "good photos beside it are taken in", [(what, each.good, {*each.good} == {TAKEN}) for what, each, _ in told]
        ),
        _check(
            f"none over {MOST_S:g} s",
            [(what, each.seconds, each.seconds <= MOST_S) for what, each, _ in told],
            note=f"at most {max(each.seconds for _, each, _ in told):.2f} s with two good photos",
        ),
    ]


def _check(label: str, cases: list[tuple[str, object, bool]], *, note: str = "") -> Check:
    """``cases`` are what was tried, what came of it, and whether that is right."""
    failures = [f"{what}: {found}" for what, found, right in cases if not right]
    return Check(label=label, cases=len(cases), passed=len(cases) - len(failures), failures=failures, note=note)


@fault(17, "bombs", passes="refused within 2 s; memory growth at most 256 MB")
def bombs(setting: Setting) -> list[Check]:
    """Small files that claim to be, or unpack to, far more, between two good photos."""
    cases: list[tuple[str, Told, int]] = []
    for platform in platform_in(setting.workdir):
        uploads = Uploads(platform)
        uploads.send("warm.png", encoded(photo(3)))
        for what, (name, make) in BOMBS.items():
            if setting.quick and what.startswith("a whole"):
                continue
            data = make()
            before = _memory("VmRSS", reset_peak=True)
            told = uploads.send(name, data)
            cases.append((what, told, _memory("VmHWM") - before))
    return [
        _check("refused", [(what, told.text, _is_refused(told)) for what, told, _ in cases]),
        _check(
            f"within {BOMB_S:g} s",
            [(what, told.seconds, told.seconds <= BOMB_S) for what, told, _ in cases],
            note=f"at most {max(told.seconds for _, told, _ in cases):.2f} s",
        ),
        _check(
            f"memory grows by at most {BOMB_BYTES // 2**20} MiB",
            [(what, growth, growth <= BOMB_BYTES) for what, _, growth in cases],
            note=f"at most {max(growth for _, _, growth in cases) / 2**20:.0f} MiB",
        ),
    ]


def _is_refused(told: Told) -> bool:
    """As a whole by a 4xx, or the file alone: nothing of it becomes a photo."""
    return 400 <= told.status < 500 or (told.status == 201 and TAKEN not in told.bad)


def _memory(what: str, *, reset_peak: bool = False) -> int:
    """This process's memory, or its peak since the last reset, in bytes."""
    if reset_peak:
        Path("/proc/self/clear_refs").write_text("5")
    (line,) = [each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith(f"{what}:")]
    return int(line.split()[1]) * 1024


def _archive(*entries: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return buffer.getvalue()


def _zeros(num_bytes: int) -> bytes:
    """So many zeros, deflated."""
    deflate, block = zlib.compressobj(1), bytes(2**20)
    parts = [deflate.compress(block) for _ in range(num_bytes // len(block))]
    return b"".join([*parts, deflate.compress(bytes(num_bytes % len(block))), deflate.flush()])


def _nested(depth: int) -> bytes:
    data = _archive(("1.png", bytes(10_000_000)))
    for _ in range(depth):
        data = _archive(*((f"{number}.zip", data) for number in range(10)))
    return data


def _million_entries() -> bytes:
    entry = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    directory = entry * 1_000_000
    return b"PK\x03\x04" + directory + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(directory), 4, 0)


def _text_chunk() -> bytes:
    data = encoded(picture())
    return data[:33] + png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(50_000_000))) + data[33:]


BOMBS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "header of a 50k x 50k PNG": ("bomb.png", lambda: png_of_header(50_000, 50_000)),
    "a whole 50k x 50k PNG": ("bomb.png", lambda: png_of_header(50_000, 50_000, _zeros(50_000 * 150_001))),
    "header of the largest PNG": ("bomb.png", lambda: png_of_header(2**31 - 1, 2**31 - 1)),
    "a 9k x 9k PNG": ("bomb.png", lambda: png_of_header(9_000, 9_000, _zeros(9_000 * 27_001))),
    "WebP": ("bomb.webp", lambda: webp_of_header(16_383, 16_383)),
    "TIFF of huge tiles": ("bomb.tif", lambda: tiled_tiff(60_000)),
    "BMP": ("bomb.bmp", lambda: bmp_of_header(40_000, 40_000)),
    "text in a PNG": ("bomb.png", _text_chunk),
    "nested archives": ("bomb.zip", lambda: _nested(3)),
    "a million entries": ("bomb.zip", _million_entries),
    "a large entry": ("bomb.zip", lambda: _archive(("1.png", bytes(200_000_000)))),
    "many large entries": ("bomb.zip", lambda: _archive(*((f"{each}.png", bytes(40_000_000)) for each in range(20)))),
}
