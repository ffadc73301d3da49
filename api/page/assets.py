"""The page's files, read and compressed once, under a path that changes when any of them does."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "static"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True)
class Asset:
    """One file."""

    content: bytes
    compressed: bytes
    content_type: str
    etag: str


@dataclass(frozen=True)
class Assets:
    """All of them, by their path below `static/`."""

    files: dict[str, Asset]
    version: str  # of all together

    @classmethod
    def read(cls, folder: Path = FOLDER) -> Assets:
        files = {}
        for path in sorted(folder.rglob("*")):
            if path.suffix in TYPES:
                content = path.read_bytes()
                files[path.relative_to(folder).as_posix()] = Asset(
                    content,
                    gzip.compress(content, mtime=0),
                    TYPES[path.suffix],
                    hashlib.sha256(content).hexdigest()[:32],
                )
        whole = "".join(f"{name} {asset.etag}\n" for name, asset in files.items())
        return cls(files, hashlib.sha256(whole.encode()).hexdigest()[:12])
