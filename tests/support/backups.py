"""The backups of docs/deploy.md, run as they are written there, and pictures to be in them."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from api.settings import ApiSettings
from cli.embedded.postgres import _binaries
from storage.postgres.database import Connection
from storage.predictions.finish import StoredImage, Succeeded, finish
from storage.predictions.render import Renderer
from storage.s3.bucket import Bucket
from tests.conftest import REPOSITORY
from tests.support.making import claim_one

PICTURE = b"the bytes of a picture"


def documented(program: str) -> str:
    """The line of the section on backups that runs this program."""
    return _found_in_section(rf"^\$ ({program} .*?)$")


def documented_settings(first: str) -> str:
    """The block of that section that sets Postgres's `first` in its first line."""
    return _found_in_section(rf"^```ini\n({first} = .*?)^```$")


def _found_in_section(pattern: str) -> str:
    text = (REPOSITORY / "docs" / "deploy.md").read_text().partition("## Backup and restore")[2]
    found = re.search(pattern, text, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found.group(1)


def run_documented(program: str, folder: Path, database_url: str) -> None:
    path = f"{_binaries()}:{os.environ['PATH']}"
    env = {"PATH": path, "DATABASE_URL": database_url}
    done = subprocess.run(
        ["/bin/bash", "-c", documented(program)], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def draw(conn: Connection, renderer: Renderer, settings: ApiSettings) -> str:
    """Draw the next prediction, its bytes in the bucket; returns the key."""
    claimed = claim_one(conn, renderer)
    assert claimed is not None
    key = claimed.key_of(settings.s3_prefix, 0, "png")
    Bucket(settings).put(key, PICTURE, "image/png")
    image = StoredImage(key, "0" * 64, len(PICTURE), "image/png", 64, 64, 7)
    assert finish(conn, renderer, claimed.prediction_id, Succeeded([image]), claim_id=claimed.claim_id) is not None
    return key


def path_of(url: str) -> str:
    return urlsplit(url)._replace(scheme="", netloc="").geturl()
