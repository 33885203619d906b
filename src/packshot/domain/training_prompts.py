"""The words a model is trained with and asked in. Knows no configuration and no records."""

import hashlib
import re
from collections.abc import Iterable


def with_article(noun: str) -> str:
    """``noun`` behind its indefinite article: "an apple", "a pear"."""
    return f"{'an' if noun[:1] in 'aeiou' else 'a'} {noun}"


def class_prompt(class_noun: str) -> str:
    """The prompt of the class pictures that preserve the prior."""
    return f"a photo of {with_article(class_noun)}"


def class_prompts(captions: Iterable[str], class_noun: str) -> list[str]:
    """The prompts of class images that show what the reference photos show: each caption once, of the plain class.

    >>> class_prompts(["two apples on grass", "on a table", "two apples on grass"], "apple")
    ['two apples on grass', 'a photo of an apple, on a table']
    """
    return list(dict.fromkeys(instance_prompt(caption, class_noun, class_noun) for caption in captions))


def trained_token(identifier: str, set_digest: str) -> str:
    """The token that is added to the base's vocabulary: no two categories or sets share one, equal runs do."""
    return f"<packshot-{hashlib.sha256(f'{identifier} {set_digest}'.encode()).hexdigest()[:12]}>"


def trained_phrase(token: str, class_noun: str) -> str:
    """What a fine-tune is trained to answer to: its token before the class noun."""
    return f"{token} {class_noun}"


def plain_prompt(prompt: str, class_noun: str, phrase: str) -> str:
    """The prompt with the class noun alone in place of the trained phrase.

    >>> plain_prompt("a photo of a <t> apple, two <t> apples", "apple", "<t> apple")
    'a photo of an apple, two apples'
    """
    return re.sub(rf"\ban? {re.escape(phrase)}", with_article(class_noun), prompt).replace(phrase, class_noun)


def subject(prompt: str, class_noun: str) -> str:
    """The prompt's words up to the class noun: what is shown, and how many of it, before where.

    >>> subject("a photo of two apples on grass", "apple"), subject("a photo of an apple", "apple")
    ('a photo of two apples', 'a photo of an apple')
    """
    found = _named(prompt, class_noun)
    return prompt[: found.end()] if found else prompt


def instance_prompt(caption: str, class_noun: str, phrase: str) -> str:
    """The training prompt of one reference photo: its caption with the class noun replaced by the trained phrase.

    A caption that holds the phrase already stays as it is.

    >>> instance_prompt("a photo of an apple on a wooden table", "apple", "<t> apple")
    'a photo of a <t> apple on a wooden table'
    >>> instance_prompt("two apples, warm light", "apple", "<t> apple")
    'two <t> apples, warm light'
    >>> instance_prompt("on grass", "apple", "<t> apple")
    'a photo of a <t> apple, on grass'
    >>> instance_prompt("", "apple", "<t> apple")
    'a photo of a <t> apple'
    >>> instance_prompt("an apple bowl with a <t> apple", "apple", "<t> apple")
    'an apple bowl with a <t> apple'
    """
    if phrase in caption:
        return caption
    found = _named(caption, class_noun)
    if found:
        subject = with_article(phrase) if found["article"] else phrase
        return f"{caption[: found.start()]}{subject}{found['plural'] or ''}{caption[found.end() :]}"
    return f"{class_prompt(phrase)}, {caption}" if caption else class_prompt(phrase)


def _named(text: str, class_noun: str) -> re.Match[str] | None:
    """Where the text names the class first, with its article and plural."""
    return re.search(rf"\b(?:(?P<article>an?) )?{re.escape(class_noun)}(?P<plural>e?s)?\b", text, re.IGNORECASE)
