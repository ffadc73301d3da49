"""`?sslrootcert=system`: with psycopg's wheel too, whose OpenSSL doesn't know where the system's certificates are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from storage.postgres import schema_revision, system_certificates
from storage.postgres.database import connect
from storage.settings import Settings
from tests.support.postgres_over_tls import postgres_over_tls


@pytest.fixture
def over_tls(settings: Settings, tmp_path: Path) -> Iterator[tuple[Settings, Path]]:
    """The test's database at `localhost`, and the authority of its certificate."""
    direct = conninfo_to_dict(settings.database_url)
    socket_path = Path(str(direct["host"])) / f".s.PGSQL.{direct['port']}"
    with postgres_over_tls(socket_path, tmp_path) as (port, authority):
        url = f"postgresql://postgres@localhost:{port}/{direct['dbname']}?sslrootcert=system&gssencmode=disable"
        yield settings.model_copy(update={"database_url": url}), authority


@pytest.mark.parametrize("mode", ["", "&sslmode=verify-full"])
def test_an_authority_of_the_system_is_trusted(
    over_tls: tuple[Settings, Path], mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, authority = over_tls
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setattr(system_certificates, "BUNDLES", ("/nowhere.pem", str(authority)))
    url = settings.database_url + mode
    schema_revision.check(settings.model_copy(update={"database_url": url}))
    with connect(url, application_name="test") as conn:
        assert conn.pgconn.ssl_in_use
    with pytest.raises(psycopg.OperationalError, match="does not match host name"):
        connect(url.replace("localhost", "127.0.0.1"), application_name="test")


def test_another_authority_is_not_trusted(over_tls: tuple[Settings, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    settings, authority = over_tls
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        connect(settings.database_url, application_name="test")
    monkeypatch.setattr(system_certificates, "BUNDLES", (str(authority),))
    with pytest.raises(psycopg.OperationalError, match="weak sslmode"):
        connect(settings.database_url + "&sslmode=require", application_name="test")


def test_the_file_that_ssl_cert_file_names_comes_first(
    over_tls: tuple[Settings, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, authority = over_tls
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    connect(settings.database_url, application_name="test").close()
