"""Scene templates: what stands around a product in its pictures, with variables in it. Rendering is pure substitution.

A text of a template may hold ``{name}`` for a declared variable and no other brace. Values are put in once and never
read again, so nothing in them is carried out or replaced. Does not know how a prompt finds its fine-tune.
"""

import dataclasses
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from packshot.domain.errors import (
    InvalidInput,
    InvalidTemplate,
    MissingVariable,
    UnknownVariable,
    UnusedOverride,
)
from packshot.domain.generation import SamplingSettings
from packshot.domain.prompts import check_prompt
from packshot.domain.variables import Value, Variable, VariableKind, check_text, did_you_mean, expected

MAX_VARIABLES = 20
MAX_TEXT_LENGTH = 300

_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_TEXTS = ("style", "quantity", "packaging", "background", "light", "negative_prompt")


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What a template says: the texts around the subject, what pictures should not show, and their size in pixels.

    They make ``STYLE of QUANTITY SUBJECT PACKAGING BACKGROUND, LIGHT``; an empty text is left out, 0 pixels = the
    base's own size.
    """

    style: str = "a photo"
    quantity: str = "a"
    packaging: str = ""
    background: str = ""
    light: str = ""
    negative_prompt: str = ""
    width: int = 0
    height: int = 0
    variables: tuple[Variable, ...] = ()

    def __post_init__(self) -> None:
        """Check that every text can be rendered, and that every variable is of use.

        Raises:
            InvalidTemplate: a text that cannot stand in a prompt, a bad size, variables of one name or of no use.
            UnknownVariable: a text names a variable that is not declared.
        """
        names = [variable.name for variable in self.variables]
        if len(names) > MAX_VARIABLES or len(set(names)) < len(names):
            raise InvalidTemplate(f"a template has at most {MAX_VARIABLES} variables, each with a name of its own")
        used: set[str] = set()
        for key in _TEXTS:
            text: str = getattr(self, key)
            check_text(key, _PLACEHOLDER.sub(" ", text), MAX_TEXT_LENGTH)
            for name in _PLACEHOLDER.findall(text):
                if name not in names:
                    raise UnknownVariable(
                        f"{key} names the variable {name!r}, which is not declared; "
                        f"{did_you_mean(name, names, 'declared are')}"
                    )
                used.add(name)
        idle = [name for name in names if name not in used]
        if idle:
            raise InvalidTemplate(f"no text uses the variable {idle[0]!r}; write {{{idle[0]}}} where it belongs")
        try:
            SamplingSettings(width=self.width, height=self.height)
        except InvalidInput as error:
            raise InvalidTemplate(str(error)) from error


@dataclass(frozen=True, kw_only=True)
class Template:
    """One version of a named scene of a namespace. Never changes; ``version`` counts from 1."""

    id: str
    namespace: str
    name: str
    version: int
    scene: Scene
    created_at: datetime

    @property
    def reference(self) -> str:
        """How callers name it: ``summer-table@2``."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, kw_only=True)
class RenderedScene:
    """A scene around one subject, with every variable filled."""

    prompt: str
    negative_prompt: str
    width: int
    height: int

    def completing(self, sampling: SamplingSettings, given: Container[str]) -> SamplingSettings:
        """``sampling`` with the scene's negative prompt and size, but for the fields that are ``given`` by the caller."""
        return dataclasses.replace(
            sampling,
            negative_prompt=sampling.negative_prompt if "negative_prompt" in given else self.negative_prompt,
            width=sampling.width if "width" in given else self.width,
            height=sampling.height if "height" in given else self.height,
        )


def check_template_name(name: str) -> str:
    """Return ``name`` if it can name a template, such as ``summer-table``.

    Raises:
        InvalidTemplate: not lower-case words of letters and digits joined by hyphens, 64 characters in all.
    """
    if len(name) > 64 or not _NAME.fullmatch(name):
        raise InvalidTemplate(
            f"{name!r} is no name of a template; write lower-case words of letters and digits joined by hyphens, "
            "at most 64 characters, for example summer-table"
        )
    return name


def render(scene: Scene, subject: str, overrides: Mapping[str, Value]) -> RenderedScene:
    """``scene`` around ``subject`` (an identifier), with ``overrides`` in place of the variables' defaults.

    Raises:
        UnusedOverride: it has no such variable; near matches are named.
        MissingVariable: a variable has neither a default nor an override.
        WrongVariable: see ``Variable.read``.
        InvalidPrompt: the prompt is too long.

    >>> scene = Scene(background="on a {surface}", variables=(Variable(name="surface", kind=VariableKind.TEXT),))
    >>> render(scene, "sks_fuji_apple", {"surface": "wooden table"}).prompt
    'a photo of a sks_fuji_apple on a wooden table'
    """
    check_used(overrides, [scene])
    values: dict[str, str] = {}
    for variable in scene.variables:
        value = overrides.get(variable.name, variable.default)
        if value is None:
            raise MissingVariable(f"{variable.name} ({expected(variable)}) has no value and no default; set it")
        values[variable.name] = variable.read(value)

    def filled(text: str) -> str:
        return " ".join(_PLACEHOLDER.sub(lambda found: values[found[1]], text).split())

    style, light = filled(scene.style), filled(scene.light)
    words = (
        style and f"{style} of",
        filled(scene.quantity),
        subject,
        filled(scene.packaging),
        filled(scene.background),
    )
    prompt = " ".join(word for word in words if word)
    return RenderedScene(
        prompt=check_prompt(f"{prompt}, {light}" if light else prompt),
        negative_prompt=filled(scene.negative_prompt),
        width=scene.width,
        height=scene.height,
    )


def check_used(overrides: Iterable[str], scenes: Sequence[Scene]) -> None:
    """Check that each of ``overrides`` is a variable of at least one of ``scenes``.

    Raises:
        UnusedOverride: it is one of none; near matches are named.
    """
    known = sorted({variable.name for scene in scenes for variable in scene.variables})
    for name in overrides:
        if name not in known:
            which = "the template has" if len(scenes) == 1 else "the templates have"
            raise UnusedOverride(
                f"{which} no variable {name!r}, so its value would not be used; "
                f"{did_you_mean(name, known, 'the variables are')}"
            )


def parse_scene(values: Mapping[str, object]) -> Scene:
    """A scene from what a file or a request says; an unknown key or a value of another type is an error.

    Raises:
        InvalidTemplate, UnknownVariable: the message says which key, and how to mend it.
    """
    _check_keys(values, Scene, "a template")
    given: dict[str, object] = {}
    for key, value in values.items():
        if key == "variables":
            if not isinstance(value, list | tuple):
                raise InvalidTemplate("variables must be a list, one entry with name and kind for each")
            given[key] = tuple(_parse_variable(each) for each in cast(Sequence[object], value))
        else:
            given[key] = _typed(key, value, int if key in ("width", "height") else str)
    return Scene(**given)  # type: ignore[arg-type]


def _parse_variable(value: object) -> Variable:
    if not isinstance(value, Mapping):
        raise InvalidTemplate(f"a variable is {value!r}; write its name, kind and the rest as keys")
    entry = {str(key): each for key, each in cast(Mapping[object, object], value).items()}
    _check_keys(entry, Variable, "a variable")
    name = _typed("name", entry.get("name"), str)
    kind = entry.get("kind")
    if kind not in list(VariableKind):
        near = did_you_mean(str(kind), list(VariableKind), "write one of")
        raise InvalidTemplate(f"the kind of the variable {name} is {kind!r}; {near}")
    given: dict[str, object] = {"name": name, "kind": VariableKind(str(kind))}
    for key in ("minimum", "maximum", "max_length"):
        given[key] = None if entry.get(key) is None else _typed(f"{key} of {name}", entry[key], int)
    choices = entry.get("choices") or ()
    if not isinstance(choices, list | tuple):
        raise InvalidTemplate(f"choices of {name} must be a list of texts")
    given["choices"] = tuple(_typed(f"a choice of {name}", each, str) for each in cast(Sequence[object], choices))
    default = entry.get("default")
    if default is not None:
        given["default"] = _typed(f"default of {name}", default, int if kind == VariableKind.INTEGER else str)
    return Variable(**given)  # type: ignore[arg-type]


def _check_keys(values: Mapping[str, object], kind: type, what: str) -> None:
    known = [field.name for field in dataclasses.fields(kind)]
    for key in values:
        if key not in known:
            raise InvalidTemplate(f"{what} has no key {key!r}; {did_you_mean(key, known, 'its keys are')}")


def _typed(what: str, value: object, kind: type) -> object:
    if not isinstance(value, kind) or isinstance(value, bool):
        wanted = "a whole number" if kind is int else "text, in quotes where it begins with a brace or is a number"
        raise InvalidTemplate(f"{what} is {value!r}; write {wanted}")
    return value
