"""The recipe of a generated picture inside its PNG: for Packshot, for people, and for whoever asks "was this AI?".

Chunks are put before the pixels, which stay the very bytes they were. A seal beside the recipe holds digests of both, so
that a change of either shows; it is no signature, as everybody can compute it. Does not know what a recipe means.
"""

import hashlib
import io
import json
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass

from PIL import Image

from packshot.domain.errors import InvalidInput
from packshot.imaging.decode import MAX_PIXELS
from packshot.imaging.pixels import PILLOW_ERRORS

Value = str | int | float | bool | None
Inscribe = Callable[[bytes, Mapping[str, Value]], bytes]
GENERATED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEY, _HUMAN_KEY, _SEAL_KEY, _XMP_KEY = "packshot", "parameters", "packshot-seal", "XML:com.adobe.xmp"
_PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_XMP = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 Iptc4xmpExt:DigitalSourceType="{GENERATED}"/>
</rdf:RDF></x:xmpmeta>
<?xpacket end="r"?>"""


def with_recipe(png: bytes, recipe: Mapping[str, Value]) -> bytes:
    """``png`` with ``recipe`` in its metadata, replacing one that it had.

    Four iTXt chunks: ``packshot`` (JSON, keys sorted), ``packshot-seal`` (digests of that JSON and of the pixels),
    ``parameters`` (one readable line per key, where other tools look) and XMP with the IPTC digital source type
    ``trainedAlgorithmicMedia``. Equal input gives equal bytes.

    Raises:
        InvalidInput: ``png`` is not a whole PNG.
    """
    human = "\n".join(f"{key}: {value}" for key, value in recipe.items() if value is not None)
    text = json.dumps(recipe, sort_keys=True, ensure_ascii=False)
    seal = json.dumps(asdict(Seal(recipe=_sha256(text.encode()), pixels=pixel_digest(png))))
    texts = ((_KEY, text), (_SEAL_KEY, seal), (_HUMAN_KEY, human), (_XMP_KEY, _XMP))
    ours = {key.encode("latin-1") for key, _ in texts}
    chunks = [(kind, data) for kind, data in _chunks(png) if kind != b"iTXt" or data.split(b"\0", 1)[0] not in ours]
    (header, *rest) = chunks
    added = [(b"iTXt", f"{key}\0\0\0\0\0{text}".encode()) for key, text in texts]
    return _SIGNATURE + b"".join(_pack(kind, data) for kind, data in (header, *added, *rest))


def read_recipe(png: bytes) -> dict[str, Value] | None:
    """The recipe that ``with_recipe`` wrote, or None where there is none that can be read."""
    try:
        list(_chunks(png))
    except InvalidInput:
        return None
    return _recipe(_texts(png))


@dataclass(frozen=True, kw_only=True)
class Seal:
    """sha256 of a recipe's JSON and of the pixels beside it."""

    recipe: str
    pixels: str


@dataclass(frozen=True, kw_only=True)
class Inscription:
    """What the metadata of a picture say of it, and whether they still fit it.

    ``recipe`` is None where it cannot be read; ``has_recipe`` tells whether there is one at all. ``pixels`` is the
    digest of the pixels as they are now, None where they cannot be decoded.
    """

    has_recipe: bool
    recipe: dict[str, Value] | None
    recipe_whole: bool
    pixels_whole: bool
    pixels: str | None
    declared_generated: bool


def read_inscription(data: bytes) -> Inscription:
    """Look at a file, whatever it is."""
    texts = _texts(data)
    try:
        seal = Seal(**json.loads(texts.get(_SEAL_KEY, b"")))
    except (ValueError, TypeError, RecursionError):
        seal = None
    try:
        pixels = pixel_digest(data)
    except InvalidInput:
        pixels = None
    recipe = _recipe(texts)
    return Inscription(
        has_recipe=_KEY in texts,
        recipe=recipe,
        recipe_whole=recipe is not None and seal is not None and seal.recipe == _sha256(texts[_KEY]),
        pixels_whole=pixels is not None and seal is not None and seal.pixels == pixels,
        pixels=pixels,
        declared_generated=GENERATED.encode() in texts.get(_XMP_KEY, b""),
    )


def pixel_digest(png: bytes) -> str:
    """sha256 of the pixels of a PNG: the same however they are compressed, and whatever the metadata.

    Raises:
        InvalidInput: ``png`` is not a whole PNG, or has more than MAX_PIXELS.
    """
    chunks = list(_chunks(png))
    header = chunks[0][1]
    width, height = struct.unpack_from(">II", header.ljust(8, b"\0"))
    if width * height > MAX_PIXELS:
        raise InvalidInput(f"the PNG has {width} x {height} pixels, more than {MAX_PIXELS}")
    try:
        bare = _SIGNATURE + b"".join(_pack(kind, data) for kind, data in chunks if kind in _PIXEL_CHUNKS)
        with Image.open(io.BytesIO(bare), formats=["PNG"]) as image:
            pixels = image.convert("RGBA").tobytes()
    except PILLOW_ERRORS as error:
        raise InvalidInput(f"the PNG cannot be decoded ({error}); make the picture again") from error
    return _sha256(f"{width} x {height}\n".encode() + pixels)


def _recipe(texts: Mapping[str, bytes]) -> dict[str, Value] | None:
    try:
        recipe = json.loads(texts[_KEY])
    except (KeyError, ValueError, RecursionError):
        return None
    return recipe if isinstance(recipe, dict) else None


def _texts(png: bytes) -> dict[str, bytes]:
    """The plain iTXt chunks by keyword, as far as the file goes."""
    found: dict[str, bytes] = {}
    with suppress(InvalidInput):
        for kind, data in _chunks(png):
            keyword, _, rest = data.partition(b"\0")
            if kind == b"iTXt" and rest.startswith(b"\0\0\0\0"):
                found.setdefault(keyword.decode("latin-1"), rest[4:])
    return found


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = len(_SIGNATURE)
    if not png.startswith(_SIGNATURE):
        raise InvalidInput(f"a recipe can only be written into a PNG; these bytes begin with {png[:8]!r}")
    while position + 12 <= len(png):
        (length,) = struct.unpack_from(">I", png, position)
        kind, data = png[position + 4 : position + 8], png[position + 8 : position + 8 + length]
        if len(data) != length:
            break
        yield kind, data
        position += 12 + length
        if kind == b"IEND":
            return
    raise InvalidInput("the PNG ends in the middle of a chunk; make the picture again")


def _pack(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
