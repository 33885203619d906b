"""``/v1/categories``: the catalog of a namespace, and what serves each category."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from packshot.domain.access import AuditAction
from packshot.domain.catalog import Category
from packshot.domain.models import AliasEvent, FineTune, serving
from packshot.ports import Search
from packshot.services.access import owned
from packshot.services.catalog import (
    CategorySummary,
    add_category,
    category_called,
    retire_category,
    summarise,
    summarise_all,
)
from packshot.services.models import check_belongs, promote, roll_back
from packshot.web.replies import Idempotent, MayAdminister, MayRead, MayTrain, Pages
from packshot.web.schemas import Alias, NewCategory, Page, Promotion, Rollback

router = APIRouter(prefix="/categories", tags=["categories"])
catalog = APIRouter(prefix="/catalog", tags=["categories"])


def _category(identifier: str, call: MayRead) -> Category:
    return category_called(call.records, identifier, call.namespace)


Called = Annotated[Category, Depends(_category)]


@router.post("", status_code=201, response_model=Category)
def create_category(body: NewCategory, call: MayTrain, once: Idempotent) -> Response:
    """Reserve a path and an identifier for a new category."""

    def act() -> Category:
        return add_category(call.records, **body.model_dump(), namespace=call.namespace)

    return once(body, act, status=201)


@router.get("")
def list_categories(
    call: MayRead, pages: Pages, q: Annotated[str, Query(max_length=200, description="Part of a name.")] = ""
) -> Page[Category]:
    """The categories by path, the retired too."""
    search = Search(text=q, fields=("path", "identifier", "class_noun")) if q else None
    return pages.of(call.records, Category, order=("path",), search=search, namespace=call.namespace)


@catalog.get("")
def list_category_summaries(call: MayRead, pages: Pages) -> Page[CategorySummary]:
    """The categories by path with their sets, versions and what serves, the retired too."""
    page = pages.of(call.records, Category, order=("path",), namespace=call.namespace)
    return Page(items=summarise_all(call.records, page.items), next=page.next)


@router.get("/{identifier}")
def get_category(category: Called, call: MayRead) -> CategorySummary:
    """One category with its sets, versions and what serves."""
    return summarise(call.records, category)


@router.post("/{identifier}/retire", response_model=Category)
def retire(category: Called, call: MayAdminister, once: Idempotent) -> Response:
    """Take a category out of use; its identifier is never given to another."""

    def act() -> Category:
        with call.audited(AuditAction.RETIRE, category.path):
            return retire_category(call.records, category.path, call.namespace)

    return once("", act)


@router.get("/{identifier}/alias", tags=["aliases"])
def get_alias(category: Called, call: MayRead) -> Alias:
    """What serves the category, and the history of that."""
    events = call.records.find(AliasEvent, category_id=category.id)
    return Alias(serving=serving(events), history=events)


@router.post("/{identifier}/alias/promote", response_model=AliasEvent, tags=["aliases"])
def promote_fine_tune(body: Promotion, category: Called, call: MayAdminister, once: Idempotent) -> Response:
    """Put a fine-tune into service."""
    fine_tune = check_belongs(owned(call.records, FineTune, body.fine_tune_id, call.namespace), category)

    def act() -> AliasEvent:
        with call.audited(AuditAction.PROMOTE, f"{category.path}@{fine_tune.version}", body.reason):
            return promote(call.records, fine_tune, reason=body.reason)

    return once(body, act)


@router.post("/{identifier}/alias/rollback", response_model=AliasEvent, tags=["aliases"])
def roll_back_alias(body: Rollback, category: Called, call: MayAdminister, once: Idempotent) -> Response:
    """Put the version back into service that served before."""

    def act() -> AliasEvent:
        with call.audited(AuditAction.ROLLBACK, category.path, body.reason):
            return roll_back(call.records, category, reason=body.reason)

    return once(body, act)
