"""``/v1/templates``: scene templates, in versions that never change."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from packshot.domain.templates import Template, parse_scene
from packshot.services.templates import add_template, template_at, template_versions
from packshot.web.replies import Idempotent, MayRead, MayTrain, Pages
from packshot.web.schemas import NewTemplate, Page

router = APIRouter(prefix="/templates", tags=["templates"])

Reference = Annotated[str, Path(description="NAME (its newest version) or NAME@VERSION.", examples=["summer-table@2"])]


@router.post("", status_code=201, response_model=Template)
def create_template(body: NewTemplate, call: MayTrain, once: Idempotent) -> Response:
    """Append a version; where the newest one says the same, that is the reply."""
    scene = parse_scene(body.model_dump(exclude={"name"}))
    return once(
        body, lambda: add_template(call.records, name=body.name, scene=scene, namespace=call.namespace), status=201
    )


@router.get("", name="list_templates")
def list_all(call: MayRead, pages: Pages) -> Page[Template]:
    """Every version of every template, by name, the oldest version first."""
    return pages.of(call.records, Template, order=("name", "version"), namespace=call.namespace)


@router.get("/{template}")
def get_template(template: Reference, call: MayRead) -> Template:
    """One version of a template."""
    return template_at(call.records, template, call.namespace)


@router.get("/{template}/versions")
def list_template_versions(
    template: Annotated[str, Path(examples=["summer-table"])], call: MayRead, pages: Pages
) -> Page[Template]:
    """The versions of a template, the oldest first."""
    name = template_versions(call.records, template, call.namespace, limit=1)[0].name
    return pages.of(call.records, Template, order=("version",), namespace=call.namespace, name=name)
