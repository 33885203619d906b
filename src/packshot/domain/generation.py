"""From a caller's prompt to a request that a model can answer, and the records of what came out.

Does not know how pictures are made.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches

from packshot.domain.catalog import Category, fold_case, fold_look_alikes, readings
from packshot.domain.composition import PlacedSubject
from packshot.domain.errors import (
    AmbiguousIdentifier,
    InvalidInput,
    InvalidPrompt,
    SchedulerRefused,
    UnknownIdentifier,
)
from packshot.domain.models import ForeignModel
from packshot.domain.prompts import FORBIDDEN, check_prompt

SCHEDULERS = ("ddim", "euler", "dpmsolver++", "flow-match-euler")
ANY_CATEGORY = "packshot"
"""The model of a request whose prompt names its category, or none."""

# Anything with an inner underscore reads as an identifier: ordinary prose has none. The other underscores are those
# that NFKC makes one; accents that are characters of their own belong to the word they stand in.
_UNDERSCORE = r"_\uff3f\ufe33\ufe34\ufe4d-\ufe4f"
_WORD = rf"[\w{_UNDERSCORE}\u0300-\u036f]"
_IDENTIFIER_LIKE = re.compile(rf"[^\W_]{_WORD}*[{_UNDERSCORE}]{_WORD}*")

_LINE_BREAK = re.compile(r"[\t\n\u2028\u2029]")


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """How pictures are sampled. Image ``i`` of a request has the seed ``seed + i``; 0 pixels = the base's own size.

    ``scheduler`` is one of SCHEDULERS, or empty for the one that the base itself is sampled with. ``layout`` names the
    stored picture from which those begin whose composition they keep, or is empty; of the steps only the last share of
    ``strength`` is taken then, so that more of it stays the smaller that is.
    """

    seed: int = 0
    num_images: int = 1
    inference_steps: int = 20
    guidance_scale: float = 4.0
    negative_prompt: str = ""
    width: int = 0
    height: int = 0
    scheduler: str = ""
    layout: str = ""
    strength: float = 0.6

    def __post_init__(self) -> None:
        """Check every bound.

        Raises:
            InvalidInput: a value out of its range.
            SchedulerRefused: no such scheduler.
            InvalidPrompt: a negative prompt that breaks the rules of prompts, or holds an identifier.
        """
        for name, low, high in (
            ("seed", 0, 2**32 - 1),
            ("num_images", 1, 1000),
            ("inference_steps", 1, 1000),
            ("guidance_scale", 0, 50),
            ("width", 0, 4096),
            ("height", 0, 4096),
            ("strength", 0, 1),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise InvalidInput(f"{name} is {value!r}; it must lie between {low} and {high}")
        for side, pixels in (("width", self.width), ("height", self.height)):
            if pixels % 8:
                near = round(pixels / 8) * 8 or 8
                raise InvalidInput(f"{side} is {pixels}; it must be a multiple of 8 pixels, say {near}")
        if self.layout and int(self.inference_steps * self.strength) < 1:
            raise InvalidInput(
                f"strength is {self.strength} of {self.inference_steps} steps, which leaves none to take; raise one of them"
            )
        if self.scheduler and self.scheduler not in SCHEDULERS:
            raise SchedulerRefused(f"no scheduler is called {self.scheduler!r}; take one of {', '.join(SCHEDULERS)}")
        if self.negative_prompt:
            check_prompt(self.negative_prompt)
        found = _IDENTIFIER_LIKE.search(self.negative_prompt)
        if found:
            raise InvalidPrompt(f"{found[0]!r} stands in the negative prompt; identifiers belong in the prompt alone")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """An identifier found in a prompt: the category it names and how it was spelled there."""

    category: Category
    spelling: str


@dataclass(frozen=True, kw_only=True)
class Generation:
    """One request for pictures. ``resolved_prompt`` is what the model reads; no ``fine_tune_id`` = the bare base.

    Exactly one of ``base_id`` and ``foreign_model`` says what answers it.

    With a ``job_id`` the pictures are that job's to make, and its state is the request's; without, they are there.
    A prompt that was rendered from a template keeps its ``template_id``.

    A composed picture has ``subjects``, each with its version in its box, and no ``fine_tune_id``: ``resolved_prompt`` is
    what the bare base reads where no subject stands.
    """

    id: str
    namespace: str
    prompt: str
    resolved_prompt: str
    base_id: str | None = None
    foreign_model: ForeignModel | None = None
    fine_tune_id: str | None
    sampling: SamplingSettings
    code_revision: str
    job_id: str | None = None
    template_id: str | None = None
    subjects: tuple[PlacedSubject, ...] = ()
    created_at: datetime

    def __post_init__(self) -> None:
        assert not (self.subjects and self.fine_tune_id), f"{self.id} is composed or of one version"
        assert (self.base_id is None) != (self.foreign_model is None), f"{self.id} must be answered by one model"


@dataclass(frozen=True, kw_only=True)
class GeneratedImage:
    """One picture of a generation; ``sha256`` names the blob with its PNG. No ``seed`` = the model was told none."""

    id: str
    generation_id: str
    number: int
    seed: int | None
    sha256: str


def objection_to(text: str) -> str | None:
    """Why ``text`` cannot stand in a prompt beside its subject, or None: a forbidden character, or an identifier."""
    found = FORBIDDEN.search(text) or _LINE_BREAK.search(text)
    if found:
        return f"it contains {found[0]!r}; remove control characters, line breaks and angle brackets"
    identifier = _IDENTIFIER_LIKE.search(text)
    return f"it contains {identifier[0]!r}, and an identifier belongs to the subject alone" if identifier else None


def identifiers_in(prompt: str) -> list[str]:
    """The words of ``prompt`` that look like identifiers, as a catalog spells them, each once."""
    return list(dict.fromkeys(fold_case(found) for found in _IDENTIFIER_LIKE.findall(prompt)))


def find_subjects(prompt: str, categories: Iterable[Category]) -> tuple[Subject, ...]:
    """The categories that ``prompt`` names by their identifiers, each once, in order of mention.

    Spelling is compared under case folding and NFKC.

    Raises:
        UnknownIdentifier: an identifier-like word that no category answers to.
        AmbiguousIdentifier: it is the beginning of several identifiers.
        InvalidPrompt: as ``check_prompt``.
    """
    check_prompt(prompt)
    known = {category.identifier: category for category in categories if category.retired_at is None}
    found: dict[str, Subject] = {}
    for spelling in _IDENTIFIER_LIKE.findall(prompt):
        name = _match(spelling, sorted(known))
        found.setdefault(name, Subject(category=known[name], spelling=spelling))
    return tuple(found.values())


def find_subject(prompt: str, categories: Iterable[Category]) -> Subject | None:
    """The one category that ``prompt`` names, or None when it names none.

    Raises:
        InvalidPrompt: two different identifiers; or as ``find_subjects``.
    """
    subjects = find_subjects(prompt, categories)
    names = sorted(subject.category.identifier for subject in subjects)
    if len(names) > 1:
        raise InvalidPrompt(f"the prompt names {len(names)} subjects ({', '.join(names)}); write one of them")
    return subjects[0] if subjects else None


def _match(spelling: str, identifiers: Sequence[str]) -> str:
    folded = fold_case(spelling)
    if folded in identifiers:
        return folded
    longer = [identifier for identifier in identifiers if identifier.startswith(folded.rstrip("_") + "_")]
    if len(longer) > 1:
        raise AmbiguousIdentifier(f"{spelling!r} could mean {', '.join(longer[:5])}; write one of them in full")
    near = [name for name in identifiers if fold_look_alikes(name) in readings(spelling)]
    near = near or longer or get_close_matches(folded, identifiers, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "list the known ones with: packshot category list"
    raise UnknownIdentifier(f"no category answers to {spelling!r}; {hint}")


def prompt_about_one(prompt: str, phrase: str) -> str:
    """What a prompt of several subjects says of each alone, with ``phrase`` for the subject.

    That is what stands before the first identifier and after the last: what stands between tells how they relate.

    >>> prompt_about_one("a photo of sks_fuji_apple next to sks_conference_pear in a basket", "<t> apple")
    'a photo of <t> apple in a basket'
    """
    found = list(_IDENTIFIER_LIKE.finditer(prompt))
    return f"{prompt[: found[0].start()]}{phrase}{prompt[found[-1].end() :]}"


def rewrite_prompt(prompt: str, subject: Subject, phrase: str) -> str:
    """``prompt`` with every spelling of the subject's identifier replaced by ``phrase``."""
    identifier = subject.category.identifier
    return _IDENTIFIER_LIKE.sub(
        lambda found: phrase if fold_case(found[0]) == identifier else found[0],
        prompt,
    )
