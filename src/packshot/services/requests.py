"""A caller's request for pictures, from wherever it comes, to what answers it: our models or another's image API."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from packshot.domain.catalog import DEFAULT_NAMESPACE, Category
from packshot.domain.composition import Box
from packshot.domain.errors import CapabilityMissing, InvalidInput
from packshot.domain.generation import ANY_CATEGORY, SamplingSettings
from packshot.domain.models import FineTune, ForeignModel
from packshot.domain.providers import Provider, is_foreign
from packshot.domain.templates import Template, Value
from packshot.ports import Records
from packshot.services.catalog import category_called
from packshot.services.foreign import foreign_model
from packshot.services.models import fine_tune_at
from packshot.services.templates import render_for, template_at


@dataclass(frozen=True, kw_only=True)
class PictureRequest:
    """What a caller writes, and nothing that it leaves out. ``settings`` are fields of SamplingSettings.

    ``model`` is ANY_CATEGORY, an identifier, or PROVIDER/NAME. It has a ``prompt``, or a ``template`` with the identifier
    of its subject as ``model``; ``version`` is one of that category instead of the serving one. ``boxes`` are where the
    subjects of a prompt stand, in order of mention.
    """

    prompt: str | None = None
    model: str = ANY_CATEGORY
    template: str | None = None
    variables: Mapping[str, Value] = field(default_factory=dict[str, Value])
    version: int | None = None
    base: str | None = None
    boxes: Sequence[Box] = ()
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, kw_only=True)
class ResolvedRequest:
    """What is to be made, and of whom it is asked: ``foreign`` where another's image API answers."""

    prompt: str
    sampling: SamplingSettings
    category: Category | None = None
    fine_tune: FineTune | None = None
    boxes: tuple[Box, ...] = ()
    template: Template | None = None
    foreign: ForeignModel | None = None


def resolve_request(
    records: Records,
    request: PictureRequest,
    *,
    providers: Callable[[], Sequence[Provider]],
    namespace: str = DEFAULT_NAMESPACE,
) -> ResolvedRequest:
    """Look up what ``request`` names. ``providers`` is asked only where the model is another's.

    Raises:
        InvalidInput: parts that do not go together, a setting out of its range, or as ``services.foreign.foreign_model``.
        NotFound: no such category, version, template or provider.
        CapabilityMissing: another's model cannot honour it.
    """
    if is_foreign(request.model):
        return _foreign(records, request, providers, namespace)
    category = category_called(records, request.model, namespace) if request.model != ANY_CATEGORY else None
    if request.version and category is None:
        raise InvalidInput(f"version {request.version} of what? name the category's identifier as model")
    fine_tune = (
        fine_tune_at(records, f"{category.path}@{request.version}", namespace) if category and request.version else None
    )
    sampling = SamplingSettings(**request.settings)
    if request.template is None:
        if request.variables:
            raise InvalidInput("variables belong to a template; name one")
        return ResolvedRequest(
            prompt=_prompt(request),
            sampling=sampling,
            category=category,
            fine_tune=fine_tune,
            boxes=tuple(request.boxes),
        )
    if request.boxes:
        raise InvalidInput(
            "boxes place the subjects of a prompt, and a template has one subject; leave one of them out"
        )
    if request.prompt is not None or category is None:
        raise InvalidInput(
            "a template makes the prompt from the category that it is about; leave the prompt out, and name the "
            "category's identifier as model"
        )
    template = template_at(records, request.template, namespace)
    rendered = render_for(template, category, request.variables)
    return ResolvedRequest(
        prompt=rendered.prompt,
        sampling=rendered.completing(sampling, request.settings),
        category=category,
        fine_tune=fine_tune,
        template=template,
    )


def _prompt(request: PictureRequest) -> str:
    if request.prompt is None:
        raise InvalidInput("give a prompt, or a template")
    return request.prompt


def _foreign(
    records: Records, request: PictureRequest, providers: Callable[[], Sequence[Provider]], namespace: str
) -> ResolvedRequest:
    ours = {
        "template": request.template,
        "variables": request.variables or None,
        "version": request.version,
        "base": request.base,
        "boxes": tuple(request.boxes) or None,
    }
    for name, value in ours.items():
        if value is not None:
            raise CapabilityMissing(f"{request.model} has no {name}, which is Packshot's own; leave it out")
    sampling, prompt = SamplingSettings(**request.settings), _prompt(request)
    model = foreign_model(records, providers(), request.model, prompt, sampling, request.settings, namespace=namespace)
    return ResolvedRequest(prompt=prompt, sampling=sampling, foreign=model)
