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
        ports = str(conninfo_to_dict(url).get("port") or "")
        if any(port and not port.isdecimal() for port in ports.split(",")):
            raise ValueError
        netloc = urlsplit(url).netloc
    except (ValueError, psycopg.Error):
        raise ValueError(
            "can't be read as postgresql://user:password@host:5432/database (several hosts: host1:5432,host2:5432);"
            " characters such as / and @ in a password are written %2F and %40"
        ) from None
    if netloc.count("@") > 1:
        raise ValueError("has more than one @: in a password it is written %40")
