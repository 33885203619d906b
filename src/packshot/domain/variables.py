"""Variables of scene templates: what a blank may hold, and values read as it takes them. Knows no template."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum

from packshot.domain.errors import InvalidTemplate, WrongVariable
from packshot.domain.generation import objection_to

MAX_CHOICES = 100
MAX_VALUE_LENGTH = 200
MAX_NUMBER = 1_000_000

Value = str | int

_VARIABLE_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_NUMBER = re.compile(r"-?[0-9]{1,9}")


class VariableKind(StrEnum):
    """What a variable holds."""

    TEXT = "text"
    CHOICE = "choice"
    INTEGER = "integer"


_KEYS_OF: Mapping[VariableKind, frozenset[str]] = {
    VariableKind.TEXT: frozenset({"max_length"}),
    VariableKind.CHOICE: frozenset({"choices"}),
    VariableKind.INTEGER: frozenset({"minimum", "maximum"}),
}


@dataclass(frozen=True, kw_only=True)
class Variable:
    """A blank of a template. Without a ``default`` the caller must fill it.

    A choice has ``choices``, a whole number its bounds ``minimum`` and ``maximum``; a text of one line may have a
    ``max_length``, which is MAX_VALUE_LENGTH characters where it is not given.
    """

    name: str
    kind: VariableKind
    default: Value | None = None
    choices: tuple[str, ...] = ()
    minimum: int | None = None
    maximum: int | None = None
    max_length: int | None = None

    def __post_init__(self) -> None:
        """Check the declaration.

        Raises:
            InvalidTemplate: a bad name, a key of another kind, bounds that hold nothing, or a default out of them.
        """
        if not _VARIABLE_NAME.fullmatch(self.name):
            raise InvalidTemplate(
                f"{self.name!r} is no name of a variable; write at most 32 lower-case letters, digits and underscores"
            )
        foreign = [
            key
            for kind, keys in _KEYS_OF.items()
            for key in sorted(keys)
            if kind is not self.kind and getattr(self, key) not in (None, ())
        ]
        if foreign:
            raise InvalidTemplate(f"the variable {self.name} is a {self.kind} and has no {' or '.join(foreign)}")
        self._check_bounds()
        if self.default is not None:
            try:
                self.read(self.default)
            except WrongVariable as error:
                raise InvalidTemplate(f"the default does not fit: {error}") from error

    def _check_bounds(self) -> None:
        match self.kind:
            case VariableKind.CHOICE:
                if not 1 <= len(self.choices) <= MAX_CHOICES or len(set(self.choices)) < len(self.choices):
                    raise InvalidTemplate(f"the variable {self.name} needs 1 to {MAX_CHOICES} choices, each once")
                for choice in self.choices:
                    check_text(f"a choice of {self.name}", choice, MAX_VALUE_LENGTH)
            case VariableKind.INTEGER:
                low, high = self.minimum, self.maximum
                if low is None or high is None or not -MAX_NUMBER <= low <= high <= MAX_NUMBER:
                    raise InvalidTemplate(
                        f"the variable {self.name} needs a minimum and a maximum, in this order, "
                        f"between {-MAX_NUMBER} and {MAX_NUMBER}"
                    )
            case VariableKind.TEXT:
                if self.max_length is not None and not 1 <= self.max_length <= MAX_VALUE_LENGTH:
                    raise InvalidTemplate(f"max_length of {self.name} must lie between 1 and {MAX_VALUE_LENGTH}")

    def read(self, value: Value) -> str:
        """``value`` as the template's texts take it; a whole number may come as text.

        Raises:
            WrongVariable: of another type, out of bounds, no choice, or text that cannot stand in a prompt.
        """
        if self.kind is VariableKind.INTEGER:
            return self._read_number(value)
        if not isinstance(value, str):
            raise WrongVariable(f"{self.name} is {value!r}; write text")
        if self.kind is VariableKind.CHOICE:
            if value not in self.choices:
                raise WrongVariable(f"{self.name} is {value!r}; {did_you_mean(value, self.choices, 'choose one of')}")
            return value
        limit = self.max_length or MAX_VALUE_LENGTH
        if len(value) > limit:
            raise WrongVariable(f"{self.name} has {len(value)} characters; at most {limit} are taken")
        objection = objection_to(value)
        if objection:
            raise WrongVariable(f"{self.name}: {objection}")
        return value

    def _read_number(self, value: Value) -> str:
        assert self.minimum is not None
        assert self.maximum is not None
        text = value.strip() if isinstance(value, str) else "" if isinstance(value, bool) else str(value)
        if not _NUMBER.fullmatch(text) or not self.minimum <= int(text) <= self.maximum:
            raise WrongVariable(
                f"{self.name} is {value!r}; write a whole number between {self.minimum} and {self.maximum}"
            )
        return str(int(text))


def check_text(what: str, text: str, limit: int) -> None:
    """Check that ``text`` can stand in a prompt, has at most ``limit`` characters, and no brace.

    Raises:
        InvalidTemplate: it cannot; ``what`` says which text it is.
    """
    if len(text) > limit:
        raise InvalidTemplate(f"{what} has {len(text)} characters; at most {limit} are taken")
    if "{" in text or "}" in text:
        raise InvalidTemplate(f"{what} is {text!r}; a brace may only stand around the name of a variable")
    objection = objection_to(text)
    if objection:
        raise InvalidTemplate(f"{what}: {objection}")


def expected(variable: Variable) -> str:
    """What ``variable`` takes, for messages."""
    match variable.kind:
        case VariableKind.CHOICE:
            return f"one of {', '.join(variable.choices[:5])}"
        case VariableKind.INTEGER:
            return f"a whole number between {variable.minimum} and {variable.maximum}"
        case VariableKind.TEXT:
            return "text"


def did_you_mean(word: str, known: Sequence[str], otherwise: str) -> str:
    """A hint at those of ``known`` that are like ``word``; at all of them, after ``otherwise``, where none is."""
    near = get_close_matches(word, known, n=3)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"{otherwise} {', '.join(known[:10])}" if known else "it has none"
