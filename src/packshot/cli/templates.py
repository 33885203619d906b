"""``packshot template``: the commands of scene templates."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from packshot.cli.catalog import Path_
from packshot.cli.output import Json, backend, show, table
from packshot.domain.errors import InvalidTemplate, WrongVariable

if TYPE_CHECKING:
    from packshot.domain.templates import Template
    from packshot.domain.variables import Variable

app = typer.Typer(no_args_is_help=True, help="Add, list and render scene templates.")

Reference = Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="A template; the newest without @VERSION.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="VARIABLE=VALUE", help="A value for a variable of the template; repeatable."),
]


def read_variables(settings: list[str] | None) -> dict[str, str]:
    """The values of ``--set variable=value`` options.

    Raises:
        WrongVariable: one has no ``=``, or sets a variable again.
    """
    values: dict[str, str] = {}
    for setting in settings or []:
        name, equals, value = setting.partition("=")
        if not equals or name.strip() in values:
            raise WrongVariable(
                f"--set {setting!r} {'sets the variable again' if equals else 'has no =; write --set variable=value'}"
            )
        values[name.strip()] = value
    return values


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="For example summer-table.")],
    file: Annotated[Path, typer.Argument(metavar="FILE.yaml", help="Its texts, size and variables.")],
    as_json: Json = False,
) -> None:
    """Append a version to a template; where the newest one says the same, nothing changes."""
    from packshot.domain.templates import parse_scene

    scene = parse_scene(_read(file))
    with backend() as there:
        template = there.add_template(name, scene)
        show(template, as_json, lambda: f"{template.reference}: {len(scene.variables)} variables")


def _read(file: Path) -> dict[str, object]:
    import yaml

    try:
        loaded = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidTemplate(f"cannot read the template {file}: {error}") from error
    if not isinstance(loaded, dict):
        raise InvalidTemplate(f"{file} holds no 'key: value' lines")
    return {str(key): value for key, value in loaded.items()}


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the newest version of every template."""
    with backend() as there:
        newest = {each.name: each for each in there.templates()}
    rows = [
        [each.name, each.version, ", ".join(variable.name for variable in each.scene.variables) or "-", _texts(each)]
        for each in newest.values()
    ]
    show(
        list(newest.values()),
        as_json,
        lambda: (
            table(["name", "version", "variables", "prompt"], rows)
            if rows
            else "no template yet; add one with: packshot template add NAME FILE.yaml"
        ),
    )


def _texts(template: "Template") -> str:
    scene = template.scene
    words = " ".join([f"{scene.style} of {scene.quantity} SUBJECT", scene.packaging, scene.background]).split()
    return f"{' '.join(words)}{', ' if scene.light else ''}{scene.light}"


@app.command("show")
def show_(reference: Reference, as_json: Json = False) -> None:
    """Show one version of a template: its texts, size and variables."""
    with backend() as there:
        template = there.template(reference)

    def text() -> str:
        scene = vars(template.scene)
        lines = [f"{key:<16}{scene[key]}".rstrip() for key in scene if key not in ("variables", "width", "height")]
        size = f"{scene['width'] or 'native'} x {scene['height'] or 'native'}"
        variables = [_declaration(variable) for variable in template.scene.variables]
        return "\n".join([template.reference, *lines, f"{'size':<16}{size}", *variables])

    show(template, as_json, text)


def _declaration(variable: "Variable") -> str:
    bounds = {
        "text": f"at most {variable.max_length} characters" if variable.max_length else "",
        "choice": ", ".join(variable.choices),
        "integer": f"{variable.minimum} to {variable.maximum}",
    }[variable.kind]
    default = "must be set" if variable.default is None else f"default {variable.default!r}"
    return f"{{{variable.name}}}".ljust(16) + "; ".join(each for each in (variable.kind, bounds, default) if each)


@app.command()
def render(reference: Reference, path: Path_, settings: Set = None, as_json: Json = False) -> None:
    """Print the prompt that a template makes for a category."""
    from packshot.services.templates import render_for

    with backend() as there:
        template = there.template(reference)
        category = there.category(path).category
    rendered = render_for(template, category, read_variables(settings))

    def text() -> str:
        size = [f"size: {rendered.width} x {rendered.height}"] if rendered.width or rendered.height else []
        negative = [f"not: {rendered.negative_prompt}"] if rendered.negative_prompt else []
        return "\n".join([rendered.prompt, *negative, *size])

    show(rendered, as_json, text)
