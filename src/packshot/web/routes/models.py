"""``/v1/fine-tunes`` and ``/v1/bases``: what was trained, how it did, and on what."""

from typing import Annotated

from fastapi import APIRouter, Depends

from packshot.domain.evaluation import Evaluation
from packshot.domain.models import BaseModelRef, FineTune
from packshot.services.access import owned
from packshot.services.catalog import category_called
from packshot.services.models import Lineage, RegisteredBase, lineage_of_fine_tune, with_prediction_type
from packshot.web.replies import MayRead, Pages
from packshot.web.schemas import Page

router = APIRouter()


def _fine_tune(fine_tune_id: str, call: MayRead) -> FineTune:
    return owned(call.records, FineTune, fine_tune_id, call.namespace)


Version = Annotated[FineTune, Depends(_fine_tune)]


@router.get("/fine-tunes", tags=["fine-tunes"])
def list_fine_tunes(call: MayRead, pages: Pages, category: str | None = None) -> Page[FineTune]:
    """The versions of a category (named by its identifier), or of all, the oldest first."""
    if category is None:
        return pages.of(call.records, FineTune, namespace=call.namespace)
    of = category_called(call.records, category, call.namespace)
    return pages.of(call.records, FineTune, category_id=of.id)


@router.get("/fine-tunes/{fine_tune_id}", tags=["fine-tunes"])
def get_fine_tune(fine_tune: Version) -> FineTune:
    """One version."""
    return fine_tune


@router.get("/fine-tunes/{fine_tune_id}/lineage", tags=["fine-tunes"])
def get_fine_tune_lineage(fine_tune: Version, call: MayRead) -> Lineage:
    """Where a version comes from, back to the reference photos."""
    return lineage_of_fine_tune(call.records, fine_tune)


@router.get("/fine-tunes/{fine_tune_id}/evaluations", tags=["evaluations"])
def list_evaluations(fine_tune: Version, call: MayRead, pages: Pages) -> Page[Evaluation]:
    """The evaluations of a version, the oldest first."""
    return pages.of(call.records, Evaluation, fine_tune_id=fine_tune.id)


@router.get("/bases", tags=["bases"])
def list_bases(call: MayRead, pages: Pages) -> Page[RegisteredBase]:
    """The base models that the operator has registered; all namespaces share them."""
    page = pages.of(call.records, BaseModelRef)
    return Page(items=[with_prediction_type(call.space.bases, base) for base in page.items], next=page.next)


@router.get("/bases/{base_id}", tags=["bases"])
def get_base(base_id: str, call: MayRead) -> RegisteredBase:
    """One base model; ``prediction_type`` is null where its registered files are not at hand, or have changed."""
    return with_prediction_type(call.space.bases, call.records.get(BaseModelRef, base_id))
