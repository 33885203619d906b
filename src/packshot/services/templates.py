"""Use cases of scene templates: add a version, find one, list them, render one for a category."""

import re
from collections.abc import Mapping
from difflib import get_close_matches

from packshot.domain.catalog import DEFAULT_NAMESPACE, Category
from packshot.domain.errors import InvalidInput, NotFound
from packshot.domain.templates import RenderedScene, Scene, Template, check_template_name, render
from packshot.domain.variables import Value
from packshot.ports import Records
from packshot.services.catalog import new_id, now

_REFERENCE = re.compile(r"(?P<name>[^@]+)(?:@v?(?P<version>[0-9]{1,9}))?")


def add_template(records: Records, *, name: str, scene: Scene, namespace: str = DEFAULT_NAMESPACE) -> Template:
    """The next version of the template ``name``; where the newest version says the same, that one.

    Raises:
        InvalidTemplate: a malformed name.
    """
    check_template_name(name)
    with records.transaction():
        versions = records.find(Template, namespace=namespace, name=name)
        if versions and versions[-1].scene == scene:
            return versions[-1]
        template = Template(
            id=new_id("tpl"),
            namespace=namespace,
            name=name,
            version=len(versions) + 1,
            scene=scene,
            created_at=now(),
        )
        records.add(template)
    return template


def template_at(records: Records, reference: str, namespace: str = DEFAULT_NAMESPACE) -> Template:
    """The template that ``NAME`` (its newest version) or ``NAME@VERSION`` names.

    Raises:
        InvalidInput: not of that form.
        NotFound: no such template, near matches are named; or no such version.
    """
    parts = _REFERENCE.fullmatch(reference)
    if not parts:
        raise InvalidInput(f"{reference!r} names no template; write NAME or NAME@VERSION, for example summer-table@2")
    versions = template_versions(records, parts["name"], namespace)
    if parts["version"] is None:
        return versions[-1]
    found = [each for each in versions if each.version == int(parts["version"])]
    if not found:
        known = ", ".join(str(each.version) for each in versions)
        raise NotFound(f"the template {parts['name']} has no version {parts['version']}; its versions are {known}")
    return found[0]


def template_versions(
    records: Records, name: str, namespace: str = DEFAULT_NAMESPACE, *, limit: int | None = None
) -> list[Template]:
    """Every version of the template ``name``, the oldest first, or the first ``limit`` of them.

    Raises:
        NotFound: there is none; near matches are named.
    """
    versions = records.find(Template, namespace=namespace, name=name, limit=limit)
    if not versions:
        names = sorted({each.name for each in records.find(Template, namespace=namespace)})
        near = get_close_matches(name, names, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "list them with: packshot template list"
        raise NotFound(f"there is no template {name!r}; {hint}")
    return versions


def list_templates(records: Records, namespace: str = DEFAULT_NAMESPACE) -> list[Template]:
    """Every version of every template of the namespace, by name, the oldest version first."""
    return records.find(Template, order=("name", "version"), namespace=namespace)


def render_for(template: Template, category: Category, variables: Mapping[str, Value]) -> RenderedScene:
    """``template`` around the identifier of ``category``.

    Raises:
        UnusedOverride, MissingVariable, WrongVariable, InvalidPrompt: see ``domain.templates.render``.
    """
    return render(template.scene, category.identifier, variables)
