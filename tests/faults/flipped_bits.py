"""Fault test 13: a bit of a fine-tune's stored weights changes, as a disk does it: its times and its size stay."""

import hashlib
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from faults.catalogs import QUICK_SAMPLING, Catalog, Product, differs, digest_of, told_digest
from faults.registry import Check, Setting, fault
from packshot.bootstrap import Workspace, create_workspace
from packshot.diffusion import fine_tunes
from packshot.diffusion.weights import read_weights
from packshot.domain.errors import CorruptArtifact
from packshot.domain.models import AliasEvent, is_quarantined
from packshot.domain.training_choices import Method
from packshot.services.generation import generate
from packshot.services.models import promote, serving_fine_tune
from packshot.settings import Settings


@fault(13, "flipped bits", passes="caught before load, quarantined; the previous version serves")
def flipped_bits(setting: Setting) -> list[Check]:
    """A bit anywhere in the newest version of each method; then every bit of two files, one after the other."""
    num_flips = 2 if setting.quick else 50
    chance = random.Random(setting.seed)
    settings = Settings(home=setting.workdir / "workspace", adapter_cache_mib=0)  # so that each request reads
    with create_workspace(settings) as space:
        catalog = Catalog(space, len(Method))
        cases = [(product, chance) for product in catalog.products for _ in range(num_flips)]
        found = [_flip_and_ask(catalog, *case) for case in cases]
        return [
            _check("nothing of a damaged file is loaded", [told["loaded"] for told in found]),
            _check("quarantined, with its reason in the history", [told["quarantined"] for told in found]),
            _check("the previous version serves, and its pictures are its own", [told["serves"] for told in found]),
            _check("mended and promoted, it serves again", [told["mended"] for told in found]),
            _check("every bit, read on its own", _every_bit(catalog, quick=setting.quick)),
        ]


def _check(label: str, outcomes: list[str]) -> Check:
    """``outcomes`` say what went wrong; empty where nothing did."""
    failures = [each for each in outcomes if each]
    return Check(label=label, cases=len(outcomes), passed=len(outcomes) - len(failures), failures=failures)


def _flip_and_ask(catalog: Catalog, product: Product, chance: random.Random) -> dict[str, str]:
    space, (first, second) = catalog.space, product.versions
    file = catalog.file_of(second)
    alone = {version.id: _asked(space, product)[0] for version in product.versions if _promoted(space, version)}
    bit = chance.randrange(8 * file.stat().st_size)
    what = f"{second.method}, bit {bit}"
    with _loads() as loaded, flipped(file, bit):
        png, told = _asked(space, product)
    events = space.records.find(AliasEvent, category_id=product.category.id)
    serves = serving_fine_tune(space.records, product.category)
    _promoted(space, second)
    mended, again = _asked(space, product)
    return {
        "loaded": what if loaded != [digest_of(first)] else "",
        "quarantined": "" if is_quarantined(second.id, events) and "damaged" in events[-1].reason else what,
        "serves": what if serves != first or told != digest_of(first) or differs(png, alone[first.id]) else "",
        "mended": what if again != digest_of(second) or differs(mended, alone[second.id]) else "",
    }


def _promoted(space: Workspace, version) -> bool:  # type: ignore[no-untyped-def]
    return bool(promote(space.records, version, reason="a test"))


def _asked(space: Workspace, product: Product) -> tuple[bytes, str]:
    """A picture of what serves, and the digest of the weights that it tells."""
    _, (image,) = generate(
        space.records,
        space.blobs,
        space.generator,
        product.prompt,
        QUICK_SAMPLING,
        bare_base=lambda: space.bases.describe("embedded"),
        code_revision="a test",
    )
    png = space.blobs.get(image.sha256)
    return png, told_digest(png)


@contextmanager
def _loads() -> Iterator[list[str]]:
    """The digests of what the engine takes apart."""
    digests: list[str] = []

    def noted(data: bytes):  # type: ignore[no-untyped-def]
        digests.append(hashlib.sha256(data).hexdigest())
        return read_weights(data)

    with patch.object(fine_tunes, "read_weights", noted):
        yield digests


@contextmanager
def flipped(file: Path, bit: int) -> Iterator[None]:
    """Invert a bit in place, and set it right in the end."""
    _invert(file, bit)
    try:
        yield
    finally:
        _invert(file, bit)


def _invert(file: Path, bit: int) -> None:
    times = file.stat()
    with file.open("r+b") as opened:
        opened.seek(bit // 8)
        (byte,) = opened.read(1)
        opened.seek(bit // 8)
        opened.write(bytes([byte ^ 1 << bit % 8]))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def _every_bit(catalog: Catalog, *, quick: bool) -> list[str]:
    """Of the smallest file and of an adapter; some of them where it should be ``quick``."""
    outcomes: list[str] = []
    for product in catalog.products:
        version = product.versions[0]
        if version.method not in (Method.TEXTUAL_INVERSION, Method.LORA):
            continue
        file = catalog.file_of(version)
        for bit in range(0, 8 * file.stat().st_size, 997 if quick else 1):
            with flipped(file, bit):
                try:
                    catalog.space.blobs.get(digest_of(version))
                    outcomes.append(f"{version.method}: bit {bit} was not noticed")
                except CorruptArtifact:
                    outcomes.append("")
    return outcomes
