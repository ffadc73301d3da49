"""Prompts that are longer than what a model's text encoders read.

diffusers cuts them, and writes what it cut into its log. No log of ours may hold a prompt, and the client has to know:
so diffusers is kept quiet, and the logs of the prediction say how much was read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

TOKENIZERS = ("tokenizer", "tokenizer_2", "tokenizer_3")


def count_tokens(tokenizer: Any, text: str) -> int:
    return len(tokenizer(text, verbose=False).input_ids)


def note_of(what: str, tokens: int, limit: int, *, all_encoders: bool = True) -> str:
    """A line for the logs of a prediction. `what`: "prompt" or "negative prompt"."""
    reader = "this model reads" if all_encoders else "one of this model's text encoders reads"
    return f"The {what} has {tokens} tokens; {reader} the first {limit}."


def notes_on(pipeline: Any, takes: Mapping[str, Any], texts: Mapping[str, str]) -> tuple[str, ...]:
    """What diffusers will cut from these texts. `takes`: the parameters of the pipeline's `__call__`."""
    tokenizers = [found for name in TOKENIZERS if (found := getattr(pipeline, name, None)) is not None]
    longest = getattr(takes.get("max_sequence_length"), "default", None)
    notes = []
    for what, text in texts.items():
        counted = [(count_tokens(tokenizer, text), _limit_of(tokenizer, longest)) for tokenizer in tokenizers]
        cut = [(tokens, limit) for tokens, limit in counted if tokens > limit]
        notes += [note_of(what, *each, all_encoders=len(cut) == len(counted)) for each in dict.fromkeys(cut)]
    return tuple(notes)


def _limit_of(tokenizer: Any, longest: object) -> int:
    limit: int = tokenizer.model_max_length  # astronomical if the tokenizer has none
    return min(limit, longest) if isinstance(longest, int) else limit


@contextmanager
def quiet_diffusers() -> Iterator[None]:
    """Only errors go to the log: one of its warnings holds what was cut from a prompt."""
    from diffusers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
