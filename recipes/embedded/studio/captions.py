"""Describes a rendered picture in words: several variants, some with an adjective. Knows no renderer."""

import colorsys

import numpy as np

from .varieties import Colour, Variety

NOUNS = {
    "apple": ("apple", "apples"),
    "pear": ("pear", "pears"),
    "lemon": ("lemon", "lemons"),
    "orange": ("orange", "oranges"),
    "tomato": ("tomato", "tomatoes"),
    "pepper": ("bell pepper", "bell peppers"),
    "aubergine": ("aubergine", "aubergines"),
    "potato": ("potato", "potatoes"),
    "steak": ("steak", "steaks"),
    "minced": ("minced meat", "minced meat"),
    "fillet": ("fish fillet", "fish fillets"),
    "can": ("can", "cans"),
    "jar": ("jar", "jars"),
    "bottle": ("bottle", "bottles"),
    "carton": ("carton", "cartons"),
    "bag": ("bag", "bags"),
}
NUMBERS = {2: "two", 3: "three", 4: "four"}
PATTERN_WORDS = {"stripes": "striped", "speckles": "speckled", "marbling": "marbled", "blush": "two-coloured"}
NUM_VARIANTS = 6


def colour_word(colour: Colour) -> str:
    """Return the everyday name of an sRGB colour."""
    hue, saturation, value = colorsys.rgb_to_hsv(*colour)
    if saturation < 0.18:
        return "white" if value > 0.8 else "black" if value < 0.25 else "grey"
    if value < 0.16:
        return "black"
    degrees = hue * 360
    if 14 <= degrees < 45 and (value < 0.62 or saturation < 0.62):
        return "brown" if value < 0.75 else "beige"
    for limit, name in (
        (14, "red"),
        (40, "orange"),
        (66, "yellow"),
        (165, "green"),
        (255, "blue"),
        (295, "purple"),
        (340, "pink"),
        (361, "red"),
    ):
        if degrees < limit:
            return "dark red" if name in ("red", "pink") and value < 0.4 else name
    raise AssertionError(degrees)


def place(scene: str) -> str:
    """Return the scene with its preposition: in a basket, on everything else."""
    return f"in {scene}" if scene.endswith("basket") else f"on {scene}"


def things(class_name: str, count: int, adjective: str | None = None) -> str:
    """Return the noun phrase: an apple, two red apples, minced meat."""
    noun = NOUNS[class_name][count > 1]
    phrase = f"{adjective} {noun}" if adjective else noun
    if class_name == "minced":
        return phrase
    if count > 1:
        return f"{NUMBERS[count]} {phrase}"
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def plain(class_name: str, scene: str, light: str, count: int) -> str:
    """Return the full caption without adjectives."""
    return f"a photo of {things(class_name, count)} {place(scene)}, {light}"


def variants(variety: Variety, scene: str, light: str, count: int, rng: np.random.Generator) -> list[str]:
    """Return several captions of one picture; the first is the full one without adjectives."""
    words = [colour_word(variety.base)]
    if variety.department == "produce" and variety.pattern in PATTERN_WORDS:
        words.append(PATTERN_WORDS[variety.pattern])
    if variety.class_name == "steak" and variety.pattern == "marbling":
        words = ["marbled"]
    captions = [plain(variety.class_name, scene, light, count)]
    for _ in range(NUM_VARIANTS - 1):
        adjective = words[rng.integers(len(words))] if rng.random() < 0.42 else None
        start = "a photo of " if rng.random() < 0.6 else ""
        where = f" {place(scene)}" if rng.random() < 0.8 else ""
        shine = f", {light}" if rng.random() < 0.6 else ""
        captions.append(start + things(variety.class_name, count, adjective) + where + shine)
    return captions
