"""What a batch leaves behind: a manifest of every picture and failure, the pictures as a zip, a contact sheet."""

import csv
import io
import json
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from typing import BinaryIO

from packshot.domain.batches import Batch
from packshot.domain.generation import GeneratedImage
from packshot.domain.models import FineTune
from packshot.imaging.sheets import Row, comparison_sheet
from packshot.ports import Blobs, Records
from packshot.services.batches import ItemState, items_of

MAX_SHEET_ROWS = 100
MAX_SHEET_COLUMNS = 8
_TILE = 128
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time of a zip: equal pictures make equal archives
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, kw_only=True)
class ManifestLine:
    """One picture, or one failure: then ``error`` names it, and file, seed and digest are empty."""

    batch: str
    category: str
    identifier: str
    template: str
    prompt: str
    resolved_prompt: str
    negative_prompt: str
    fine_tune_version: int | None
    number: int | None
    seed: int | None
    image_id: str
    sha256: str
    file: str
    error: str
    message: str


def manifest(records: Records, batch: Batch) -> list[ManifestLine]:
    """A line for every picture that is made and every failure, in the order of the items."""
    return list(_lines(records, batch))


def manifest_jsonl(lines: Iterable[ManifestLine]) -> str:
    """A manifest as JSON, a line each."""
    return "".join(json.dumps(asdict(line), ensure_ascii=False) + "\n" for line in lines)


def manifest_csv(lines: Iterable[ManifestLine]) -> str:
    """A manifest as CSV with a heading. Text that a spreadsheet would run as a formula stands behind a quote."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([field.name for field in fields(ManifestLine)])
    for line in lines:
        writer.writerow([_cell(value) for value in asdict(line).values()])
    return text.getvalue()


def write_zip(records: Records, blobs: Blobs, batch: Batch, to: BinaryIO) -> int:
    """Write the pictures that are made into a zip archive; returns how many. Equal pictures give equal bytes.

    Raises:
        CorruptArtifact: a stored picture is damaged.
    """
    count = 0
    with zipfile.ZipFile(to, "w", zipfile.ZIP_STORED) as archive:
        for name, image in pictures(records, batch):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), blobs.get(image.sha256))
            count += 1
    return count


def pictures(records: Records, batch: Batch) -> list[tuple[str, GeneratedImage]]:
    """The pictures that are made, each with its name in a folder: ``produce/apple/fuji/summer-v1-seed7.png``."""
    return [(_file(state, image), image) for state in items_of(records, batch) for image in state.images]


def batch_sheet(records: Records, blobs: Blobs, batch: Batch) -> bytes:
    """Categories in rows against templates in columns, with the first pictures of each, as PNG; failures stay empty.

    Shows at most MAX_SHEET_ROWS categories and MAX_SHEET_COLUMNS columns.
    """
    items = items_of(records, batch)
    templates = list({state.template.id: state.template.reference for state in items}.items())[:MAX_SHEET_COLUMNS]
    each = max(1, min(batch.sampling.num_images, MAX_SHEET_COLUMNS // len(templates)))
    by_category: dict[str, dict[str, ItemState]] = {}
    for state in items:
        by_category.setdefault(state.category.path, {})[state.template.id] = state
    shown = list(by_category.items())[:MAX_SHEET_ROWS]
    rows = [_row(blobs, path, states, [id_ for id_, _ in templates], each) for path, states in shown]
    labels = [f"{name}, seed {batch.sampling.seed + number}" for _, name in templates for number in range(each)]
    left_out = "" if len(shown) == len(by_category) else f", the first {len(shown)} of {len(by_category)} categories"
    return comparison_sheet(rows, labels, title=f"batch {batch.id}{left_out}", tile=_TILE)


def _row(blobs: Blobs, path: str, states: dict[str, ItemState], template_ids: list[str], each: int) -> Row:
    cells: list[bytes | None] = []
    for id_ in template_ids:
        made = {image.number: image for image in states[id_].images}
        cells += [blobs.get(made[number].sha256) if number in made else None for number in range(each)]
    errors = sorted({state.failure.error for state in states.values() if state.failure})
    return Row(label=" ".join([path, *(f"({error})" for error in errors)]), images=cells)


def _lines(records: Records, batch: Batch) -> Iterator[ManifestLine]:
    versions: dict[str, int] = {}
    for state in items_of(records, batch):
        made = state.generation
        fine_tune_id = made.fine_tune_id if made else None
        if fine_tune_id and fine_tune_id not in versions:
            versions[fine_tune_id] = records.get(FineTune, fine_tune_id).version
        lines: list[GeneratedImage | None] = [*state.images]
        if state.failure:
            lines.append(None)
        for image in lines:
            failure = state.failure if image is None else None
            yield ManifestLine(
                batch=batch.id,
                category=state.category.path,
                identifier=state.category.identifier,
                template=state.template.reference,
                prompt=made.prompt if made else "",
                resolved_prompt=made.resolved_prompt if made else "",
                negative_prompt=made.sampling.negative_prompt if made else "",
                fine_tune_version=versions[fine_tune_id] if fine_tune_id else None,
                number=image.number if image else None,
                seed=image.seed if image else None,
                image_id=image.id if image else "",
                sha256=image.sha256 if image else "",
                file=_file(state, image) if image else "",
                error=failure.error if failure else "",
                message=failure.message if failure else "",
            )


def _file(state: ItemState, image: GeneratedImage) -> str:
    return f"{state.category.path}/{state.template.name}-v{state.template.version}-seed{image.seed}.png"


def _cell(value: str | int | None) -> str | int:
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return "" if value is None else value
