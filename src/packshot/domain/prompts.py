"""What people may write where a model reads it. Knows no identifiers."""

import re

from packshot.domain.errors import InvalidInput, InvalidPrompt

MAX_PROMPT_LENGTH = 1000

# Angle brackets in every form that NFKC makes one; lone surrogates are bytes of the command line that are no UTF-8.
FORBIDDEN = re.compile(r"[<>\ufe64\ufe65\uff1c\uff1e\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def check_prompt(prompt: str) -> str:
    """Return ``prompt`` if a caller may write it.

    Raises:
        InvalidPrompt: empty, too long, or with control characters or angle brackets (which spell model tokens).
    """
    if not prompt.strip():
        raise InvalidPrompt('the prompt is empty; write for example "sks_honeycrisp_apple on a wooden table"')
    if len(prompt) > MAX_PROMPT_LENGTH:
        raise InvalidPrompt(f"the prompt has {len(prompt)} characters; at most {MAX_PROMPT_LENGTH} are read")
    found = FORBIDDEN.search(prompt)
    if found:
        raise InvalidPrompt(f"the prompt contains {found[0]!r}; remove control characters and angle brackets")
    return prompt


def check_caption(text: str) -> str:
    """Return ``text`` if a photo may be described by it; it may name its category.

    Raises:
        InvalidInput: control characters, or angle brackets (which spell model tokens).
    """
    found = FORBIDDEN.search(text)
    if found:
        raise InvalidInput(
            f"the caption {text[:80]!r} contains {found[0]!r}; remove control characters and angle brackets"
        )
    return text
