"""Which rows are asked for, and from which place on. Does not read them.

A list goes on behind a row by comparing the very columns that it is ordered by (keyset paging), so that the database
follows an index to that place and a page costs the same wherever it is. Questions of one form are one statement with
other parameters, made once: building it takes longer than most answers.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, bindparam, func, or_, select, tuple_

from packshot.ports import Search, Wanted
from packshot.storage import tables
from packshot.storage.rows.values import time_to_text

Parameters = dict[str, Any]
_WILD = re.compile(r"[\\%_]")
_ESCAPED = r"\\\g<0>"


@dataclass(frozen=True, kw_only=True)
class Question:
    """The form of a question to one table. ``equal`` are names of columns, with a letter: is it v(alue), n(one), l(ist)."""

    table: Table
    equal: tuple[tuple[str, str], ...] = ()
    since: bool = False
    until: bool = False
    search: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    newest_first: bool = False
    behind: bool = False
    limited: bool = False


def asked(
    table: Table,
    equal: Mapping[str, Wanted],
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    search: Search | None = None,
) -> tuple[Question, Parameters]:
    """The form of a question for the rows that are like that (see ``Records.find``), and its parameters."""
    forms = tuple((name, _form(value)) for name, value in equal.items())
    parameters: Parameters = {f"is_{name}": value for name, value in equal.items() if value is not None}
    if since is not None:
        parameters["since"] = time_to_text(since)
    if until is not None:
        parameters["until"] = time_to_text(until)
    if search is not None:
        parameters["text"] = f"%{_WILD.sub(_ESCAPED, search.text)}%"
    fields = search.fields if search else ()
    question = Question(table=table, equal=forms, since=since is not None, until=until is not None, search=fields)
    return question, parameters


@lru_cache(maxsize=4096)
def rows(question: Question) -> Select[Any]:
    """The rows by the columns of its order, then by creation, or the other way round; from the row ``key_0``, ``key_1`` … on, at most ``limit``."""
    keys = _keys(question)
    order = [key.desc() for key in keys] if question.newest_first else keys
    statement = select(question.table).where(*_conditions(question)).order_by(*order)
    if question.behind:
        place = tuple_(*(bindparam(f"key_{number}", type_=key.type) for number, key in enumerate(keys)))
        there = tuple_(*keys)
        statement = statement.where(there < place if question.newest_first else there > place)
    return statement.limit(bindparam("limit")) if question.limited else statement


@lru_cache(maxsize=4096)
def place(question: Question) -> Select[Any]:
    """The columns that order its rows, of the row with the id ``after``."""
    return select(*_keys(question)).where(*_conditions(question), question.table.c.id == bindparam("after"))


@lru_cache(maxsize=4096)
def tallied(question: Question, by: tuple[str, ...], sums: tuple[str, ...]) -> Select[Any]:
    """Its rows counted, and their columns ``sums`` added up, per value of the columns ``by``."""
    column = question.table.c
    groups = [column[name] for name in by]
    return (
        select(*groups, func.count(), *(func.sum(column[name]) for name in sums))
        .where(*_conditions(question))
        .group_by(*groups)
        .order_by(*(group.asc().nulls_first() for group in groups))
    )


def _form(value: Wanted) -> str:
    return "n" if value is None else "v" if isinstance(value, str | int) else "l"


def _keys(question: Question) -> list[ColumnElement[Any]]:
    return [*(question.table.c[name] for name in question.order), question.table.c.seq]


def _conditions(question: Question) -> list[ColumnElement[bool]]:
    column = question.table.c
    found = [_equals(question.table, name, form) for name, form in question.equal]
    if question.since:
        found.append(column.created_at >= bindparam("since"))
    if question.until:
        found.append(column.created_at < bindparam("until"))
    if question.search:
        found.append(
            or_(
                *(func.lower(column[name]).like(func.lower(bindparam("text")), escape="\\") for name in question.search)
            )
        )
    return found


def _equals(table: Table, name: str, form: str) -> ColumnElement[bool]:
    if name == "namespace" and name not in table.c:
        return _belongs(table, form)
    assert name in table.c and name != "seq", f"a {table.name} cannot be found by {name}"
    column, parameter = table.c[name], f"is_{name}"
    if form == "l":
        return column.in_(bindparam(parameter, expanding=True))
    return column.is_(None) if form == "n" else column == bindparam(parameter)


def _belongs(table: Table, form: str) -> ColumnElement[bool]:
    """Whether a row is, through its category or its fine-tune, of that namespace."""
    for name, parent in (("category_id", tables.category), ("fine_tune_id", tables.fine_tune)):
        if name in table.c:
            return table.c[name].in_(select(parent.c.id).where(_equals(parent, "namespace", form)))
    raise AssertionError(f"a {table.name} belongs to no namespace")
