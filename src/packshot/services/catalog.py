"""Use cases of the catalog: add, find, list and retire categories."""

import secrets
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import TypeVar

from packshot.domain.catalog import (
    DEFAULT_NAMESPACE,
    Category,
    check_available,
    check_class_noun,
    check_identifier,
    check_in_use,
    check_path,
    derive_identifier,
    path_matches,
)
from packshot.domain.errors import CategoryExists, NotFound
from packshot.domain.generation import identifiers_in
from packshot.domain.models import AliasEvent, FineTune, serving
from packshot.domain.references import ReferenceImage, ReferenceSet
from packshot.ports import Records


@dataclass(frozen=True, kw_only=True)
class CategorySummary:
    """A category with what belongs to it, as a list shows it."""

    category: Category
    num_references: int
    num_refused: int
    newest_set: ReferenceSet | None
    fine_tunes: tuple[FineTune, ...]
    serving_version: int | None


def new_id(prefix: str) -> str:
    """A fresh id such as ``img_9f86d081884c7d65``: unguessable, safe in URLs and file names."""
    return f"{prefix}_{secrets.token_hex(8)}"


def now() -> datetime:
    """The current time in UTC."""
    return datetime.now(UTC)


def add_category(
    records: Records,
    *,
    path: str,
    class_noun: str,
    identifier: str | None = None,
    namespace: str = DEFAULT_NAMESPACE,
) -> Category:
    """Reserve a path and an identifier for a new category.

    Raises:
        InvalidPath, InvalidInput, InvalidIdentifier: a name breaks its rule.
        CategoryExists, IdentifierTaken: somebody has it already, or something that looks like it.
    """
    check_path(path)
    check_class_noun(class_noun)
    chosen = derive_identifier(path, class_noun, namespace) if identifier is None else identifier
    category = Category(
        id=new_id("cat"),
        namespace=namespace,
        path=path,
        class_noun=class_noun,
        identifier=chosen,
        created_at=now(),
    )
    with records.transaction():
        taken = records.find(Category, namespace=namespace)
        if any(other.path == path for other in taken):
            raise CategoryExists(f"the category {path} exists; see it with: packshot category show {path}")
        check_available(chosen, taken)
        check_identifier(chosen)
        records.add(category)
    return category


def category_at(records: Records, path: str, namespace: str = DEFAULT_NAMESPACE) -> Category:
    """The category at ``path``.

    Raises:
        NotFound: names near matches.
    """
    found = records.find(Category, namespace=namespace, path=path)
    if found:
        return found[0]
    paths = [category.path for category in records.find(Category, namespace=namespace)]
    near = get_close_matches(path, paths, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "list them with: packshot category list"
    raise NotFound(f"there is no category {path!r}; {hint}")


def categories_matching(records: Records, pattern: str, namespace: str = DEFAULT_NAMESPACE) -> list[Category]:
    """The categories in use whose path ``pattern`` means, by path; see ``path_matches``.

    Raises:
        NotFound: there is none.
    """
    found = sorted(
        (
            category
            for category in records.find(Category, namespace=namespace)
            if category.retired_at is None and path_matches(category.path, pattern)
        ),
        key=lambda category: category.path,
    )
    if not found:
        raise NotFound(
            f"no category in use has a path like {pattern!r}; * is any text between two '/', ** any part of a path; "
            "see the paths with: packshot category list"
        )
    return found


def category_called(records: Records, identifier: str, namespace: str = DEFAULT_NAMESPACE) -> Category:
    """The category that callers write as ``identifier``.

    Raises:
        NotFound: none in this namespace.
    """
    found = records.find(Category, namespace=namespace, identifier=identifier)
    if not found:
        raise NotFound(f"no category answers to {identifier!r}")
    return found[0]


def category_named(records: Records, name: str, namespace: str = DEFAULT_NAMESPACE) -> Category:
    """The category that ``name`` means: its path, or the identifier that callers write.

    Raises:
        NotFound: neither; near matches are named.
    """
    called = records.find(Category, namespace=namespace, identifier=name)
    return called[0] if called else category_at(records, name, namespace)


def categories_meant(records: Records, prompt: str, namespace: str) -> list[Category]:
    """The categories in use that ``prompt`` names exactly; where it names another, all of the namespace, for a hint."""
    named = [
        [
            category
            for category in records.find(Category, namespace=namespace, identifier=identifier)
            if category.retired_at is None
        ]
        for identifier in identifiers_in(prompt)
    ]
    if all(named):
        return [category for found in named for category in found]
    return records.find(Category, namespace=namespace)


def retire_category(records: Records, path: str, namespace: str = DEFAULT_NAMESPACE) -> Category:
    """Take a category out of use. Its identifier stays reserved for ever.

    Raises:
        NotFound: no such category.
        CategoryRetired: it is retired already.
    """
    with records.transaction():
        category = check_in_use(category_at(records, path, namespace))
        retired = replace(category, retired_at=now())
        records.replace(retired)
    return retired


def summarise(records: Records, category: Category) -> CategorySummary:
    """What belongs to ``category``."""
    return summarise_all(records, [category])[0]


def summarise_all(records: Records, categories: Sequence[Category]) -> list[CategorySummary]:
    """What belongs to each of ``categories``, in as many questions to the database as for one."""
    ids = [category.id for category in categories]
    counts = {
        each.key: each.count for each in records.tally(ReferenceImage, ("category_id", "refusal"), category_id=ids)
    }
    sets = {each.category_id: each for each in records.find(ReferenceSet, order=("version",), category_id=ids)}
    fine_tunes = _by_category(records.find(FineTune, category_id=ids))
    events = _by_category(records.find(AliasEvent, category_id=ids))
    return [
        CategorySummary(
            category=each,
            num_references=counts.get((each.id, None), 0),
            num_refused=sum(
                count for (owner, refusal), count in counts.items() if owner == each.id and refusal is not None
            ),
            newest_set=sets.get(each.id),
            fine_tunes=tuple(fine_tunes[each.id]),
            serving_version=_version_of(serving(events[each.id]), fine_tunes[each.id]),
        )
        for each in categories
    ]


def list_categories(records: Records, namespace: str = DEFAULT_NAMESPACE) -> list[CategorySummary]:
    """Every category of the namespace, by path, the retired ones too."""
    return summarise_all(records, records.find(Category, order=("path",), namespace=namespace))


_Owned = TypeVar("_Owned", FineTune, AliasEvent)


def _by_category(records: Sequence[_Owned]) -> defaultdict[str, list[_Owned]]:
    found: defaultdict[str, list[_Owned]] = defaultdict(list)
    for each in records:
        found[each.category_id].append(each)
    return found


def _version_of(fine_tune_id: str | None, among: Sequence[FineTune]) -> int | None:
    return next((each.version for each in among if each.id == fine_tune_id), None)
