"""Which code runs here, so that a warm parent that imported older code is started again."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

OURS = ("cli", "storage", "worker")
LIBRARIES = ("torch", "diffusers", "transformers", "psycopg", "boto3")


def code_version(*more: Path) -> int:
    """A number that changes when a file of ours, an installed library, or one of the files `more` changes."""
    files = list(more)
    for name in OURS:
        origin = _origin(name)
        if origin is not None:
            files += sorted(origin.parent.rglob("*.py"))
    files += [origin for name in LIBRARIES if (origin := _origin(name)) is not None]
    return hash(tuple(_stamp(file) for file in files))


def _origin(name: str) -> Path | None:
    """The file of a package; found without importing it."""
    spec = find_spec(name)
    return Path(spec.origin) if spec is not None and spec.origin else None


def _stamp(file: Path) -> tuple[str, int, int]:
    try:
        state = file.stat()
    except OSError:  # in the middle of an upgrade
        return str(file), 0, 0
    return str(file), state.st_mtime_ns, state.st_size
