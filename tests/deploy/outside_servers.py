"""A Postgres behind TCP and a password, and an S3 server with keys of its own: what an operator brings along."""

from __future__ import annotations

import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from cli.embedded import EmbeddedPostgres, EmbeddedS3

# The superuser stays on its private socket; everybody else comes over TCP with a password.
ACCESS = "local all all trust\nhost all all 127.0.0.0/8 scram-sha-256\n"


@contextmanager
def outside_servers() -> Iterator[dict[str, str]]:
    """The settings that reach them; the database is owned by a role that is no superuser, the bucket isn't there."""
    if sys.platform != "linux":
        pytest.skip("needs the whole loopback network, for an address where port 5432 is free")
    folder = Path(tempfile.mkdtemp(prefix="dr-outside-"))
    folder.chmod(0o755)  # as root, Postgres runs as an account of its own
    postgres = EmbeddedPostgres(folder / "postgres")
    key, secret = secrets.token_hex(8), secrets.token_hex(24)
    s3 = EmbeddedS3(folder / "s3", access_key_id=key, secret_access_key=secret)
    try:
        s3.start()
        yield {
            "DATABASE_URL": _open_to_tcp(postgres),
            "S3_ENDPOINT_URL": s3.endpoint_url,
            "S3_ACCESS_KEY_ID": key,
            "S3_SECRET_ACCESS_KEY": secret,
            "S3_BUCKET": "pictures",
        }
    finally:
        s3.stop()
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _open_to_tcp(postgres: EmbeddedPostgres) -> str:
    address = f"127.{secrets.randbelow(254) + 1}.{secrets.randbelow(254) + 1}.{secrets.randbelow(254) + 1}"
    password = secrets.token_hex(24)
    postgres.start()
    access = postgres.data / "access.conf"
    access.write_text(ACCESS)
    access.chmod(0o644)
    with psycopg.connect(postgres.url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE ROLE gallery LOGIN PASSWORD {}").format(sql.Literal(password)))
        admin.execute("CREATE DATABASE gallery OWNER gallery")
        admin.execute(sql.SQL("ALTER SYSTEM SET listen_addresses = {}").format(sql.Literal(address)))
        admin.execute(sql.SQL("ALTER SYSTEM SET hba_file = {}").format(sql.Literal(str(access))))
    postgres.stop()
    postgres.start()  # ALTER SYSTEM outlives the file that is written at every start
    return f"postgresql://gallery:{password}@{address}:5432/gallery"
