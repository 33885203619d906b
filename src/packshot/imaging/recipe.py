"""The recipe of a generated picture inside its PNG: for Packshot, for people, and for whoever asks "was this AI?".

Chunks are put before the pixels, which stay the very bytes they were. Does not know what a recipe means.
"""

import json
import struct
import zlib
from collections.abc import Iterator, Mapping

from packshot.domain.errors import InvalidInput

Value = str | int | float | bool | None

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEY, _HUMAN_KEY, _XMP_KEY = "packshot", "parameters", "XML:com.adobe.xmp"
_XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"/>
</rdf:RDF></x:xmpmeta>
<?xpacket end="r"?>"""


def with_recipe(png: bytes, recipe: Mapping[str, Value]) -> bytes:
    """``png`` with ``recipe`` in its metadata, replacing one that it had.

    Three iTXt chunks: ``packshot`` (JSON, keys sorted), ``parameters`` (one readable line per key, where other tools
    look) and XMP with the IPTC digital source type ``trainedAlgorithmicMedia``. Equal input gives equal bytes.

    Raises:
        InvalidInput: ``png`` is not a PNG.
    """
    human = "\n".join(f"{key}: {value}" for key, value in recipe.items() if value is not None)
    texts = ((_KEY, json.dumps(recipe, sort_keys=True, ensure_ascii=False)), (_HUMAN_KEY, human), (_XMP_KEY, _XMP))
    ours = {key.encode("latin-1") for key, _ in texts}
    chunks = [(kind, data) for kind, data in _chunks(png) if kind != b"iTXt" or data.split(b"\0", 1)[0] not in ours]
    (header, *rest) = chunks
    added = [(b"iTXt", f"{key}\0\0\0\0\0{text}".encode()) for key, text in texts]
    return _SIGNATURE + b"".join(_pack(kind, data) for kind, data in (header, *added, *rest))


def read_recipe(png: bytes) -> dict[str, Value] | None:
    """The recipe that ``with_recipe`` wrote, or None where there is none that can be read."""
    try:
        chunks = list(_chunks(png))
    except InvalidInput:
        return None
    prefix = f"{_KEY}\0\0\0\0\0".encode()
    for kind, data in chunks:
        if kind == b"iTXt" and data.startswith(prefix):
            try:
                recipe = json.loads(data[len(prefix) :])
            except (ValueError, RecursionError):
                return None
            return recipe if isinstance(recipe, dict) else None
    return None


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
