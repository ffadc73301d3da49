"""Describes a scene in words: synonyms, varied grammar, parts left out, words that mean nothing."""

import random

from .scenes import Scene, Thing
from .vocabulary import (
    BACKGROUND_PHRASES,
    COLOUR_WORDS,
    POSITION_PHRASES,
    PREFIXES,
    RELATION_PHRASES,
    SHAPE_WORDS,
    SIZE_WORDS,
)

ANY_LEFT_OUT_SHARE = 0.04
UNKNOWN_SHARE = 0.15
UNKNOWN_WORD = "zzz"
PARTS = frozenset({"size", "colour", "shape", "place", "background"})


def sample_caption(scene: Scene, rng: random.Random, left_out: frozenset[str] = frozenset()) -> str:
    """A caption for training, without the parts `left_out`; now and then without others, or with unknown words."""
    parts = PARTS - left_out
    if rng.random() < ANY_LEFT_OUT_SHARE:
        parts -= set(rng.sample(sorted(PARTS), rng.choice((1, 1, 2))))
    caption = describe(scene, parts, rng)
    return _with_unknown_words(caption, rng) if rng.random() < UNKNOWN_SHARE else caption


def describe(scene: Scene, parts: set[str] | frozenset[str], rng: random.Random) -> str:
    """Says these parts of the scene; what is not in `parts` is left out."""
    if len(scene.things) == 2:
        return _describe_pair(scene, parts, rng)
    thing = scene.things[0]
    place = rng.choice(POSITION_PHRASES[scene.place]) if "place" in parts else ""
    background = _background(scene, parts, rng)
    style = rng.random()
    if style < 0.12:
        return _tags(thing, place, background, parts, rng)
    noun = _noun(thing, parts, rng)
    if style < 0.7:
        return _join(_prefix(rng), noun, place, background)
    if style < 0.8:
        return _join(_prefix(rng), noun, background, place)
    if style < 0.9:
        return _join(background, noun, place)
    return _join(background, "with", noun, place) if background else _join(noun, place)


def _describe_pair(scene: Scene, parts: set[str] | frozenset[str], rng: random.Random) -> str:
    first, second = (_noun(thing, parts, rng) for thing in scene.things)
    background = _background(scene, parts, rng)
    if "place" not in parts:
        both = _join(first, rng.choice(("and", "and", "next to", "beside", "with")), second)
    elif rng.random() < 0.15:
        sides = {"left of": ("left", "right"), "right of": ("right", "left"),
                 "above": ("top", "bottom"), "below": ("bottom", "top")}[scene.place]  # fmt: skip
        where = [rng.choice(POSITION_PHRASES[side]) for side in sides]
        both = _join(first, where[0], "and", second, where[1])
    else:
        both = _join(first, rng.choice(RELATION_PHRASES[scene.place]), second)
    return _join(background, both) if rng.random() < 0.15 else _join(_prefix(rng), both, background)


def _noun(thing: Thing, parts: set[str] | frozenset[str], rng: random.Random) -> str:
    size = rng.choice(SIZE_WORDS[thing.size]) if "size" in parts else ""
    colour = rng.choice(COLOUR_WORDS[thing.colour]) if "colour" in parts else ""
    shape = rng.choice(SHAPE_WORDS[thing.shape]) if "shape" in parts else ""
    article = rng.choice(("a", "a", "a", "the", ""))
    style = rng.random()
    if colour and style < 0.06:
        noun = _join(size, shape, rng.choice(("in", "that is", "colored", "coloured")), colour)
    elif size and style < 0.1:
        noun = _join(colour, shape, "that is", size)
    elif style < 0.2:
        noun = _join(colour, size, shape)
    else:
        noun = _join(size, colour, shape)
    if article == "a" and noun[:1] in "aeio":
        article = "an"
    return _join(article, noun)


def _tags(thing: Thing, place: str, background: str, parts: set[str] | frozenset[str], rng: random.Random) -> str:
    tags = [
        rng.choice(SIZE_WORDS[thing.size]) if "size" in parts else "",
        _join(rng.choice(COLOUR_WORDS[thing.colour]) if "colour" in parts else "",
              rng.choice(SHAPE_WORDS[thing.shape]) if "shape" in parts else ""),
        place,
        background if background.endswith("background") else "",
    ]  # fmt: skip
    rng.shuffle(tags)
    if background and not background.endswith("background"):
        tags.append(background)
    return ", ".join(tag for tag in tags if tag)


def _background(scene: Scene, parts: set[str] | frozenset[str], rng: random.Random) -> str:
    if "background" not in parts:
        return ""
    colour = rng.choice(COLOUR_WORDS[scene.background])
    phrase = rng.choice(BACKGROUND_PHRASES)
    return (phrase.replace(" a {}", " an {}") if colour[0] in "aeio" else phrase).format(colour)


def _prefix(rng: random.Random) -> str:
    return rng.choice(PREFIXES) if rng.random() < 0.3 else ""


def _with_unknown_words(caption: str, rng: random.Random) -> str:
    words = caption.split()
    if rng.random() < 0.3:
        return _join(caption, *[UNKNOWN_WORD] * rng.randint(1, 6))
    for _ in range(rng.randint(1, 2)):
        words.insert(rng.randint(0, len(words)), UNKNOWN_WORD)
    return " ".join(words)


def _join(*pieces: str) -> str:
    return " ".join(piece for piece in pieces if piece)
