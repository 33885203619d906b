"""Categories and their identifiers: names, look-alikes, derivation. Does not know prompts (see ``generation``)."""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from packshot.domain.errors import CategoryRetired, IdentifierTaken, InvalidIdentifier, InvalidInput, InvalidPath

DEFAULT_NAMESPACE = "sks"

NAMESPACE_PATTERN = r"^[a-z][a-z0-9]{0,15}$"

_SEGMENT = r"[a-z0-9]+(?:-[a-z0-9]+)*"
_PATH = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT}){{0,5}}")
_IDENTIFIER = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)+")
_CLASS_NOUN = re.compile(r"[a-z]+(?:[ -][a-z]+)*")

# Single characters with the shape of a Latin letter in one of its cases: Cyrillic, Greek, Armenian, Latin, digits.
_LOOK_ALIKES = str.maketrans(
    "авекмнорстухіјѕԁһӏԛԝѵαβεικνορτυχωγσօսհոɑɡɩıȷ01|",
    "abekmhopctyxijsdhlqwvabeikvoptuxwyoouhnagiijoll",
)


@dataclass(frozen=True, kw_only=True)
class Category:
    """One product category: a place in the tree, the noun of its class, and the identifier callers write."""

    id: str
    namespace: str
    path: str
    class_noun: str
    identifier: str
    created_at: datetime
    retired_at: datetime | None = None


def check_namespace(namespace: str) -> str:
    """Return ``namespace`` if it can be the first word of identifiers, such as ``sks``.

    Raises:
        InvalidInput: not a lower-case letter followed by at most 15 letters and digits.
    """
    if not re.fullmatch(NAMESPACE_PATTERN, namespace):
        raise InvalidInput(
            f"{namespace!r} is not a namespace; write a lower-case letter and at most 15 letters and digits"
        )
    return namespace


def check_path(path: str) -> str:
    """Return ``path`` if it is a valid category path, such as ``produce/apple/honeycrisp``.

    Raises:
        InvalidPath: not one to six lower-case segments of letters, digits and single hyphens, 200 characters in all.
    """
    if len(path) > 200 or not _PATH.fullmatch(path):
        raise InvalidPath(
            f"{path!r} is not a category path; write one to six lower-case segments of letters, digits and "
            "hyphens, joined by '/', for example produce/apple/honeycrisp"
        )
    return path


def path_matches(path: str, pattern: str) -> bool:
    """Whether a category path is one that ``pattern`` means: ``*`` is any text within a segment, ``**`` any segments.

    >>> [path_matches("produce/apple/fuji", each) for each in ("produce/**", "produce/*/fuji", "produce/*", "**")]
    [True, True, False, True]
    """
    pieces = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*"}
    parts = re.split(r"(\*\*/|\*\*|\*)", pattern)
    return re.fullmatch("".join(pieces.get(part) or re.escape(part) for part in parts), path) is not None


def check_class_noun(class_noun: str) -> str:
    """Return ``class_noun`` if it is one to three plain lower-case words, such as ``apple`` or ``bell pepper``.

    Raises:
        InvalidInput: anything else; a wrong class noun costs most of the fidelity, so it is never guessed.
    """
    if len(class_noun) > 40 or not _CLASS_NOUN.fullmatch(class_noun) or len(class_noun.split()) > 3:
        raise InvalidInput(
            f"{class_noun!r} is not a class noun; write the plain singular word for the product's class "
            "in lower case, for example 'apple' or 'bell pepper'"
        )
    return class_noun


def check_identifier(identifier: str) -> str:
    """Return ``identifier`` if callers may write it in prompts, such as ``sks_honeycrisp_apple``.

    Raises:
        InvalidIdentifier: not lower-case ASCII words joined by underscores, or longer than 64 characters.
    """
    if len(identifier) > 64 or not _IDENTIFIER.fullmatch(identifier):
        raise InvalidIdentifier(
            f"{identifier!r} is not an identifier; write at least two lower-case words of letters and digits "
            f"joined by '_', at most 64 characters, for example {DEFAULT_NAMESPACE}_honeycrisp_apple"
        )
    return identifier


def derive_identifier(path: str, class_noun: str, namespace: str = DEFAULT_NAMESPACE) -> str:
    """The identifier for a category that was given none.

    >>> derive_identifier("produce/apple/honeycrisp", "apple")
    'sks_honeycrisp_apple'
    >>> derive_identifier("produce/pink-lady", "apple")
    'sks_pinklady_apple'
    """
    leaf = path.rsplit("/", 1)[-1].replace("-", "")
    noun = re.sub(r"[ -]", "", class_noun)
    return f"{namespace}_{leaf}" if leaf == noun else f"{namespace}_{leaf}_{noun}"


def fold_case(text: str) -> str:
    """``text`` under NFKC and case folding: the form in which two spellings of one identifier are the same."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def fold_look_alikes(text: str) -> str:
    """``text`` as the eye reads it; two identifiers with equal folds cannot both exist in one namespace.

    The rule goes character by character. Two characters are one if callers may write either for the other (case,
    NFKC), if only a mark tells them apart (accents are dropped), or if common typefaces give them one shape: letters of
    other scripts, a dotless i, and of the digits 0, which is an o, and 1, which is an l (the single-character
    confusables of Unicode Technical Standard 39). Whatever is merely similar stays apart, since the names of products
    are full of it: sequences (rn and m, vv and w), digits put for letters (5 and s), i and l.

    >>> fold_look_alikes("SKS_H0neycrisp_Аpp1e") == fold_look_alikes("sks_honeycrisp_apple")
    True
    >>> fold_look_alikes("sks_corn") == fold_look_alikes("sks_com")
    False
    """
    decomposed = unicodedata.normalize("NFKD", fold_case(text))
    plain = "".join(char for char in decomposed if not unicodedata.combining(char))
    return plain.translate(_LOOK_ALIKES)


def readings(spelling: str) -> frozenset[str]:
    """The folds that ``spelling`` may be meant as: a capital I is an i, and read as an l."""
    return frozenset({fold_look_alikes(spelling), fold_look_alikes(spelling.replace("I", "l"))})


def check_in_use(category: Category) -> Category:
    """Return ``category`` if it is in use.

    Raises:
        CategoryRetired: it was retired.
    """
    if category.retired_at:
        raise CategoryRetired(
            f"{category.path} was retired at {category.retired_at:%Y-%m-%d %H:%M} UTC and takes no photos, trainings, "
            "promotions or requests any more; add a category with another path for what is to come"
        )
    return category


def check_available(identifier: str, categories: Iterable[Category]) -> None:
    """Check that ``identifier`` cannot be mistaken for one that a category of the same namespace has or had.

    Raises:
        IdentifierTaken: equal under look-alike folding to an identifier in use or retired.
    """
    for category in categories:
        if fold_look_alikes(category.identifier) in readings(identifier):
            state = "retired, and retired identifiers are never reused" if category.retired_at else "in use"
            raise IdentifierTaken(
                f"the identifier {identifier!r} cannot be told from {category.identifier!r} of {category.path}, "
                f"which is {state}; choose another with --identifier"
            )
