"""What a variety of a product is, the distribution of the training varieties, and the held-out ones.

A training variety is a pure function of (class, number). Draws that come near a held-out look are drawn again, so that
no training picture shows one. Knows nothing of meshes.
"""

import colorsys
from dataclasses import dataclass

import numpy as np

Colour = tuple[float, float, float]
NUM_TRAINING_VARIETIES = 24
TOO_CLOSE = 0.42


@dataclass(frozen=True, kw_only=True)
class Variety:
    """One look of a class: sRGB colours, a pattern, its strength and fineness, four form numbers; all in 0..1."""

    department: str
    class_name: str
    name: str
    base: Colour
    second: Colour
    third: Colour
    pattern: str
    amount: float
    scale: float
    form: tuple[float, float, float, float]
    design: int

    @property
    def path(self) -> str:
        """The category path, such as produce/apple/honeycrisp."""
        return f"{self.department}/{self.class_name}/{self.name}"


@dataclass(frozen=True, kw_only=True)
class Style:
    """A region of looks: hue (degrees), saturation, value ranges of two colours, and a pattern."""

    weight: float
    base: tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
    second: tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
    pattern: str


def _style(weight: float, pattern: str, base: str, second: str) -> Style:
    """Return a style; a colour reads 'hue-hue saturation-saturation value-value' in degrees and percent."""

    def ranges(text: str) -> tuple:
        spans = [tuple(float(x) for x in span.split("~")) for span in text.split()]
        return (spans[0], (spans[1][0] / 100, spans[1][1] / 100), (spans[2][0] / 100, spans[2][1] / 100))

    return Style(weight=weight, base=ranges(base), second=ranges(second), pattern=pattern)


ANY_BRIGHT, ANY_DARK, PALE = "0~360 55~90 55~92", "0~360 50~90 22~50", "30~60 5~25 88~97"
PACKAGES = [
    _style(3, "circle", ANY_BRIGHT, PALE),
    _style(2, "diamond", ANY_BRIGHT, ANY_BRIGHT),
    _style(2, "stripes", PALE, ANY_BRIGHT),
    _style(2, "bands", ANY_BRIGHT, PALE),
    _style(2, "circle", PALE, ANY_BRIGHT),
    _style(1, "triangle", ANY_DARK, ANY_BRIGHT),
    _style(1, "star", ANY_DARK, PALE),
    _style(1, "diamond", PALE, ANY_DARK),
]

STYLES: dict[tuple[str, str], list[Style]] = {
    ("produce", "apple"): [
        _style(3, "plain", "354~366 75~90 60~82", "350~360 80~90 45~60"),
        _style(2, "plain", "72~92 55~75 65~85", "60~80 50~60 70~85"),
        _style(2, "blush", "68~88 50~70 72~88", "352~365 70~85 60~78"),
        _style(1, "plain", "48~58 60~78 80~92", "40~50 60~75 75~85"),
        _style(2, "stripes", "355~365 72~85 62~78", "345~358 80~95 28~42"),
        _style(2, "stripes", "74~92 50~70 65~85", "350~362 72~85 50~70"),
        _style(1, "speckles", "352~364 75~88 42~60", "45~60 30~50 80~90"),
    ],
    ("produce", "pear"): [
        _style(3, "plain", "62~82 50~68 70~86", "60~75 50~60 60~75"),
        _style(2, "blush", "52~66 55~70 78~90", "8~22 65~80 65~80"),
        _style(2, "speckles", "50~64 50~68 76~88", "28~38 55~65 40~52"),
        _style(1, "plain", "356~368 60~75 45~60", "0~10 60~70 40~55"),
    ],
    ("produce", "lemon"): [
        _style(3, "plain", "48~56 75~92 88~97", "60~75 60~70 75~85"),
        _style(1, "blush", "50~56 75~88 88~95", "75~95 60~75 60~75"),
        _style(1, "plain", "80~105 60~80 50~68", "70~80 60~70 60~70"),
        _style(1, "speckles", "46~54 70~85 85~94", "70~90 50~65 50~62"),
    ],
    ("produce", "orange"): [
        _style(4, "plain", "22~32 85~97 88~98", "30~38 80~90 85~95"),
        _style(1, "blush", "26~32 82~92 88~96", "4~14 80~92 72~85"),
        _style(1, "blush", "30~36 80~92 88~96", "70~90 60~75 55~70"),
    ],
    ("produce", "tomato"): [
        _style(4, "plain", "0~10 82~94 72~88", "350~360 85~92 60~70"),
        _style(1, "plain", "42~50 78~90 85~94", "30~40 80~90 80~90"),
        _style(1, "blush", "6~12 80~90 75~86", "60~85 55~70 50~65"),
        _style(1, "stripes", "355~365 70~85 50~62", "80~100 55~70 35~48"),
    ],
    ("produce", "pepper"): [
        _style(3, "plain", "355~365 82~95 68~84", "350~360 85~92 55~65"),
        _style(2, "plain", "44~52 82~95 86~96", "38~44 82~92 85~92"),
        _style(2, "plain", "98~125 60~80 35~55", "100~120 60~75 30~40"),
        _style(1, "plain", "20~28 85~95 84~94", "14~20 85~92 80~88"),
        _style(1, "blush", "100~115 60~75 38~50", "0~8 80~90 60~75"),
    ],
    ("produce", "aubergine"): [
        _style(4, "plain", "275~300 45~70 14~26", "270~290 40~60 10~18"),
        _style(1, "stripes", "285~305 30~48 62~76", "300~315 10~20 88~95"),
        _style(1, "blush", "280~298 45~60 25~38", "300~320 15~28 80~88"),
    ],
    ("produce", "potato"): [
        _style(3, "speckles", "34~42 42~58 66~80", "26~32 50~60 35~48"),
        _style(1, "speckles", "2~12 45~58 50~62", "15~25 45~55 32~42"),
        _style(1, "blush", "32~40 50~60 55~66", "22~28 55~65 38~48"),
    ],
    ("meat", "steak"): [
        _style(3, "marbling", "352~362 68~80 52~66", "20~34 12~25 90~96"),
        _style(2, "plain", "350~360 70~82 40~54", "22~36 14~26 88~95"),
        _style(2, "bone", "354~364 66~78 50~64", "24~36 12~24 88~95"),
    ],
    ("meat", "minced"): [
        _style(3, "plain", "352~364 55~70 60~76", "10~24 18~32 88~95"),
        _style(2, "plain", "5~15 42~55 76~88", "18~30 12~22 90~96"),
        _style(1, "plain", "350~360 65~78 40~52", "8~20 25~38 80~90"),
    ],
    ("meat", "fillet"): [
        _style(3, "chevrons", "10~20 65~80 86~96", "24~34 22~38 92~98"),
        _style(2, "plain", "14~36 8~22 88~95", "355~370 30~45 75~85"),
        _style(1, "chevrons", "350~362 70~82 48~62", "355~365 50~60 62~72"),
        _style(1, "blush", "18~32 12~25 88~94", "355~368 45~58 75~86"),
    ],
    ("packaged", "can"): PACKAGES,
    ("packaged", "jar"): PACKAGES,
    ("packaged", "bottle"): PACKAGES,
    ("packaged", "carton"): PACKAGES,
    ("packaged", "bag"): PACKAGES,
}
CLASSES = list(STYLES)


def _hsv(ranges: tuple, rng: np.random.Generator) -> Colour:
    hue, saturation, value = (rng.uniform(*span) for span in ranges)
    return colorsys.hsv_to_rgb(hue / 360 % 1, saturation, value)


def look_distance(one: Variety, other: Variety) -> float:
    """Return how far apart two looks of a class are: colours in sRGB, and 0.35 for different patterns."""
    apart = [np.linalg.norm(np.subtract(getattr(one, key), getattr(other, key))) for key in ("base", "second")]
    return float(apart[0] + 0.5 * apart[1] + 0.35 * (one.pattern != other.pattern))


def training_variety(department: str, class_name: str, number: int) -> Variety:
    """Return training variety `number` of a class, at a distance from every held-out one."""
    styles = STYLES[department, class_name]
    rng = np.random.default_rng([CLASSES.index((department, class_name)), number])
    weights = np.array([style.weight for style in styles]) / sum(style.weight for style in styles)
    avoided = [other for other in held_out() if other.class_name == class_name]
    while True:
        style = styles[rng.choice(len(styles), p=weights)]
        variety = Variety(
            department=department,
            class_name=class_name,
            name=f"variety-{number:02d}",
            base=_hsv(style.base, rng),
            second=_hsv(style.second, rng),
            third=_hsv(((0, 360), (0.3, 0.9), (0.2, 0.9)), rng),
            pattern=style.pattern,
            amount=rng.uniform(0.3, 0.8),
            scale=rng.uniform(0.2, 0.9),
            form=tuple(rng.uniform(0, 1, 4)),
            design=int(rng.integers(1 << 30)),
        )
        near = 0.0 if department == "meat" else TOO_CLOSE if department == "packaged" else 0.22
        if all(look_distance(variety, other) > near for other in avoided):
            return variety


def _held(
    path: str,
    base: str,
    second: str,
    third: str,
    pattern: str,
    amount: float,
    scale: float,
    form: tuple[float, float, float, float],
    design: int = 0,
) -> Variety:
    department, class_name, name = path.split("/")
    colours = [tuple(int(text[k : k + 2], 16) / 255 for k in (0, 2, 4)) for text in (base, second, third)]
    return Variety(
        department=department,
        class_name=class_name,
        name=name,
        base=colours[0],
        second=colours[1],
        third=colours[2],
        pattern=pattern,
        amount=amount,
        scale=scale,
        form=form,
        design=design,
    )


SAMPLE_PATHS = [
    "produce/apple/honeycrisp",
    "produce/apple/fuji",
    "produce/pear/conference",
    "meat/steak/ribeye",
    "packaged/can/sunrise-beans",
    "packaged/carton/blue-meadow",
]


def held_out() -> list[Variety]:
    """Return the varieties that no training picture shows; the first six are the sample catalog."""
    return [
        _held("produce/apple/honeycrisp", "f4bb48", "c3202a", "8a5a2b", "stripes", 0.72, 0.55, (0.5, 0.6, 0.4, 0.5)),
        _held("produce/apple/fuji", "d9a35f", "b8485a", "8a5a2b", "stripes", 0.85, 0.95, (0.95, 0.3, 0.1, 0.4)),
        _held("produce/pear/conference", "8f8a3c", "6e4a22", "5a3b1c", "russet", 0.6, 0.5, (1.0, 0.1, 0.5, 0.5)),
        _held("meat/steak/ribeye", "a82f35", "f2dfc8", "f2dfc8", "ribeye", 0.95, 0.7, (0.35, 0.7, 0.4, 0.6)),
        _held(
            "packaged/can/sunrise-beans", "157a6e", "f7a81b", "fff4d6", "sunrise", 0.6, 0.5, (0.5, 0.5, 0.5, 0.5), 11
        ),
        _held(
            "packaged/carton/blue-meadow", "f4f6f8", "1f4fb2", "3fa34d", "meadow", 0.6, 0.5, (0.6, 0.4, 0.5, 0.5), 12
        ),
        _held("produce/apple/golden-russet", "b58a3c", "6b4a2a", "6b4a2a", "russet", 0.55, 0.5, (0.6, 0.5, 0.5, 0.4)),
        _held("produce/pear/forelle", "d8c54a", "b01f2e", "5a3b1c", "freckled-blush", 0.6, 0.6, (0.2, 0.8, 0.3, 0.5)),
        _held("produce/lemon/variegated", "f2dd66", "6f9a3a", "6f9a3a", "stripes", 0.5, 0.3, (0.4, 0.5, 0.5, 0.5)),
        _held("produce/orange/tarocco", "f08a24", "8c1a24", "4a6b2a", "speckles", 0.8, 0.3, (0.5, 0.5, 0.5, 0.5)),
        _held("produce/tomato/green-zebra", "8fae3e", "d8c04a", "3c6e2a", "stripes", 0.6, 0.3, (0.4, 0.5, 0.5, 0.5)),
        _held("produce/pepper/purple-beauty", "4a2350", "6b2f63", "4c7a34", "plain", 0.5, 0.5, (0.5, 0.6, 0.5, 0.5)),
        _held("produce/aubergine/white-egg", "efe9d8", "e3d9b8", "5d8a3c", "plain", 0.4, 0.5, (0.1, 0.8, 0.5, 0.5)),
        _held("produce/potato/vitelotte", "43304f", "241a2c", "241a2c", "speckles", 0.6, 0.5, (0.7, 0.4, 0.5, 0.5)),
        _held("meat/steak/picanha", "8f2430", "f1e2c4", "f1e2c4", "fat-cap", 0.7, 0.4, (0.7, 0.2, 0.6, 0.3)),
        _held("meat/fillet/mackerel", "b9c4c8", "33505e", "33505e", "tiger", 0.6, 0.5, (0.6, 0.4, 0.5, 0.5)),
        _held("packaged/can/violet-ring", "5b2a86", "f3e9ff", "ff5fa2", "ring", 0.6, 0.5, (0.3, 0.5, 0.5, 0.5), 21),
        _held("packaged/jar/forest-honey", "c9831f", "2f4f2f", "fff3cf", "hexagon", 0.6, 0.5, (0.4, 0.6, 0.5, 0.5), 22),
        _held("packaged/bottle/coral-tonic", "f2655a", "ffffff", "1d3557", "cross", 0.6, 0.5, (0.5, 0.4, 0.5, 0.5), 23),
        _held("packaged/carton/night-oat", "1c2340", "f4d35e", "f95738", "ring", 0.6, 0.5, (0.4, 0.6, 0.5, 0.5), 24),
        _held("packaged/bag/ember-coffee", "2b2a28", "e4572e", "f3e9d2", "sunrise", 0.6, 0.5, (0.5, 0.5, 0.5, 0.5), 25),
    ]
