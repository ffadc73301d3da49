"""What an access token looks like: `dr_`, 32 random characters, and a checksum of 6.

The prefix lets secret scanners find one that was published by mistake; the checksum lets us refuse a mistyped one,
and all guesses but one in four billion, without asking the database.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import zlib

PREFIX = "dr_"
ALPHABET = string.digits + string.ascii_letters
RANDOM_CHARS = 32  # of 62: 190 bits
CHECKSUM_CHARS = 6  # 62**6 > 2**32
SHOWN_CHARS = len(PREFIX) + 5

_SHAPE = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{RANDOM_CHARS + CHECKSUM_CHARS}}}", re.ASCII)


def new_token() -> str:
    """A token that nobody has yet."""
    head = PREFIX + "".join(secrets.choice(ALPHABET) for _ in range(RANDOM_CHARS))
    return head + _checksum(head)


def is_token(text: str) -> bool:
    """Whether it has the form of a token, its checksum included; whether we gave it out is another question."""
    return _SHAPE.fullmatch(text) is not None and _checksum(text[:-CHECKSUM_CHARS]) == text[-CHECKSUM_CHARS:]


def digest_of(token: str) -> str:
    """What is stored. A plain SHA-256 will do: nobody can try 190 bits through."""
    return hashlib.sha256(token.encode()).hexdigest()


def shown_of(token: str) -> str:
    """The first characters, for lists: too few to be of use to a thief."""
    return f"{token[:SHOWN_CHARS]}…"


def _checksum(text: str) -> str:
    number, digits = zlib.crc32(text.encode()), ""
    for _ in range(CHECKSUM_CHARS):
        number, digit = divmod(number, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits
