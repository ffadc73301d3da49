"""Everything that the pocket model can draw, and the words for it."""

from typing import Final

RGB = tuple[int, int, int]

COLOURS: Final[dict[str, RGB]] = {
    "red": (220, 38, 38),
    "orange": (245, 140, 30),
    "yellow": (250, 215, 50),
    "green": (46, 158, 70),
    "cyan": (70, 200, 215),
    "blue": (38, 78, 210),
    "purple": (130, 55, 180),
    "pink": (246, 150, 190),
    "brown": (120, 72, 40),
    "black": (20, 20, 24),
    "white": (250, 250, 250),
    "gray": (135, 138, 142),
}

SHAPES: Final = ("circle", "square", "triangle", "star", "heart", "diamond", "cross", "ring")

SIZES: Final[dict[str, float]] = {"small": 0.135, "medium": 0.205, "large": 0.29}
"""Radius as a fraction of the picture's shorter side, for a picture with one object."""

PAIR_SIZES: Final[dict[str, float]] = {"small": 0.115, "medium": 0.165, "large": 0.2}
"""The same for a picture with two objects, which have to share the room."""

POSITIONS: Final[dict[str, tuple[int, int]]] = {
    "centre": (0, 0),
    "left": (-1, 0),
    "right": (1, 0),
    "top": (0, -1),
    "bottom": (0, 1),
}
"""The direction in which an object is moved away from the middle of the picture."""

RELATIONS: Final = ("left of", "right of", "above", "below")
"""Where the first object of a pair is, seen from the second."""

SHAPE_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "circle": ("circle", "circle", "disc", "disk", "dot"),
    "square": ("square", "square", "box"),
    "triangle": ("triangle",),
    "star": ("star",),
    "heart": ("heart",),
    "diamond": ("diamond", "diamond", "rhombus", "lozenge"),
    "cross": ("cross", "cross", "plus"),
    "ring": ("ring", "ring", "hoop", "donut"),
}

COLOUR_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "red": ("red", "red", "crimson", "scarlet"),
    "orange": ("orange", "orange", "tangerine"),
    "yellow": ("yellow", "yellow", "golden", "lemon"),
    "green": ("green", "green", "emerald"),
    "cyan": ("cyan", "turquoise", "teal", "aqua"),
    "blue": ("blue", "blue", "azure", "cobalt"),
    "purple": ("purple", "purple", "violet"),
    "pink": ("pink", "pink", "rose"),
    "brown": ("brown", "brown", "chocolate"),
    "black": ("black", "black", "ebony"),
    "white": ("white", "white", "ivory"),
    "gray": ("gray", "grey", "silver"),
}

SIZE_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "small": ("small", "small", "tiny", "little"),
    "medium": ("medium", "medium sized", "middling"),
    "large": ("large", "big", "big", "huge"),
}

POSITION_PHRASES: Final[dict[str, tuple[str, ...]]] = {
    "centre": ("in the middle", "in the center", "in the centre", "centered", "centred", "at the center"),
    "left": ("on the left", "at the left", "on the left side", "to the left", "left"),
    "right": ("on the right", "at the right", "on the right side", "to the right", "right"),
    "top": ("at the top", "near the top", "on top", "at the upper edge", "top"),
    "bottom": ("at the bottom", "near the bottom", "at the lower edge", "bottom"),
}

RELATION_PHRASES: Final[dict[str, tuple[str, ...]]] = {
    "left of": ("left of", "to the left of", "on the left of"),
    "right of": ("right of", "to the right of", "on the right of"),
    "above": ("above", "over", "on top of"),
    "below": ("below", "under", "beneath", "underneath"),
}

BACKGROUND_PHRASES: Final = (
    "on a {} background",
    "on a {} background",
    "on {}",
    "against a {} backdrop",
    "against {}",
    "with a {} background",
    "on a {} canvas",
    "background {}",
    "{} background",
)

PREFIXES: Final = (
    "a drawing of", "a picture of", "an image of", "draw", "please draw", "show me", "a photo of",
    "a painting of", "an illustration of", "paint", "make",
)  # fmt: skip


def words() -> list[str]:
    """Every word that has a token of its own, in a fixed order. All others are unknown words."""
    phrases: list[str] = ["user", "assistant"]
    for table in (SHAPE_WORDS, COLOUR_WORDS, SIZE_WORDS, POSITION_PHRASES, RELATION_PHRASES):
        for choices in table.values():
            phrases.extend(choices)
    phrases.extend(BACKGROUND_PHRASES)
    phrases.extend(PREFIXES)
    phrases.extend(("a", "an", "the", "and", "with", "that", "is", "it", "in", "of", "colored", "coloured",
                    "scene", "next", "to", "beside"))  # fmt: skip
    seen: dict[str, None] = {}
    for phrase in phrases:
        for word in phrase.replace("{}", " ").split():
            seen[word] = None
    return list(seen)
