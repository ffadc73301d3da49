"""The format of an access token: `dr_`, 32 random characters, and a checksum of 6 characters.

Secret scanners find published tokens by the prefix. The checksum lets us refuse mistyped tokens, and all but one of
four billion guesses, without a database query.
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
    """Generate a new random token."""
    head = PREFIX + "".join(secrets.choice(ALPHABET) for _ in range(RANDOM_CHARS))
    return head + _checksum(head)


def is_token(text: str) -> bool:
    """Whether the text has the format of a token and a correct checksum. The token may not exist."""
    return _SHAPE.fullmatch(text) is not None and _checksum(text[:-CHECKSUM_CHARS]) == text[-CHECKSUM_CHARS:]


def digest_of(token: str) -> str:
    """Return the digest for the database. A plain SHA-256 is enough: 190 random bits can't be guessed."""
    return hashlib.sha256(token.encode()).hexdigest()


def shown_of(token: str) -> str:
    """Return the first characters, for lists. They are too few to guess the token."""
    return f"{token[:SHOWN_CHARS]}…"


def _checksum(text: str) -> str:
    number, digits = zlib.crc32(text.encode()), ""
    for _ in range(CHECKSUM_CHARS):
        number, digit = divmod(number, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits
