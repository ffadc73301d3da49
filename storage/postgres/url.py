"""Whether a DATABASE_URL is one. Those who would connect with it repeat what they can't read, passwords included."""

from __future__ import annotations

from urllib.parse import urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict

SCHEMES = ("postgresql://", "postgres://")


def check_postgres_url(url: str) -> None:
    """Raise ValueError, which says what is wrong and shows nothing of it."""
    if not url.startswith(SCHEMES):
        raise ValueError("needs to be postgresql://user:password@host:5432/database")
    try:
        parts = urlsplit(url)
        _ = parts.port
        conninfo_to_dict(url)
    except (ValueError, psycopg.Error):
        raise ValueError(
            "can't be read as postgresql://user:password@host:5432/database; signs such as / and @ in a password are"
            " written %2F and %40"
        ) from None
    if parts.netloc.count("@") > 1:
        raise ValueError("has more than one @: in a password it is written %40")
