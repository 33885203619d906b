"""Says which rule a refused write broke, in our own errors. Does not write."""

from typing import Any

from sqlalchemy import UniqueConstraint
from sqlalchemy.exc import IntegrityError

from packshot.domain.catalog import Category
from packshot.domain.errors import CategoryExists, Conflict, IdentifierTaken, NotFound, PackshotError
from packshot.domain.references import ReferenceImage, ReferenceSet
from packshot.ports import Record
from packshot.storage import tables
from packshot.storage.rows import Shape
from packshot.storage.rows.inputs import members_to_rows


def refusal(record: Record, shape: Shape[Any], error: IntegrityError) -> PackshotError:
    """The error for ``record``, which the database refused."""
    cause = str(error.orig)
    if "foreign key" in cause.lower():
        return _missing_parent(record, shape)
    broken = _broken_columns(shape, cause)
    if isinstance(record, Category) and "path" in broken:
        return CategoryExists(
            f"the category {record.path} exists in the namespace {record.namespace}, or did and is retired"
        )
    if isinstance(record, Category) and "identifier_fold" in broken:
        return IdentifierTaken(
            f"the identifier {record.identifier!r} cannot be told from another one in the namespace "
            f"{record.namespace}, in use or retired; choose another with --identifier"
        )
    row = shape.to_row(record)
    values = ", ".join(f"{name} {row[name]!r}" for name in broken if name in row) or cause
    return Conflict(f"there is a {type(record).__name__} with {values} already")


def removal_refusal(image: ReferenceImage) -> Conflict:
    """The error for a reference image that must stay."""
    return Conflict(f"{image.file_name} ({image.id}) is part of a frozen reference set and cannot be removed")


def _missing_parent(record: Record, shape: Shape[Any]) -> NotFound:
    rows = [(shape.table, shape.to_row(record))]
    if isinstance(record, ReferenceSet):
        rows += [(tables.reference_set_member, row) for row in members_to_rows(record)]
    parents = {
        f"{key.column.table.name} {row[key.parent.name]!r}"
        for table, row in rows
        for key in table.foreign_keys
        if row[key.parent.name] is not None and row[key.parent.name] != record.id
    }
    return NotFound(
        f"the {type(record).__name__} {record.id!r} points at a record that does not exist; "
        f"one of these is missing: {', '.join(sorted(parents))}"
    )


def _broken_columns(shape: Shape[Any], cause: str) -> list[str]:
    """The columns of the unique key that ``cause`` names: SQLite lists them, PostgreSQL gives the key's name."""
    for constraint in shape.table.constraints:
        if not isinstance(constraint, UniqueConstraint):
            continue
        names = [column.name for column in constraint.columns]
        listed = ", ".join(f"{shape.table.name}.{name}" for name in names)
        if cause.endswith(f": {listed}") or f'"{constraint.name}"' in cause:
            return names
    return []
