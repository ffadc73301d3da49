"""The API in this process, on the real Postgres and the real S3 server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api.settings import ApiSettings
from storage.postgres.listener import EventListener
from storage.settings import Settings
from tests import pictures
from tests.conftest import RunningServices, migrated_database
from tests.support.api_app import CATALOG, serving


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    """A catalog of two models that need no weights."""
    path = tmp_path / "models.toml"
    path.write_text(CATALOG)
    return path


@pytest.fixture
def api_settings(settings: ApiSettings, catalog: Path) -> ApiSettings:
    return settings.model_copy(update={"models": catalog})


@pytest.fixture
def app(api_settings: ApiSettings) -> Iterator[Flask]:
    with serving(api_settings) as app:
        yield app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture(scope="module")
def shared_client(services: RunningServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    """One API for all tests of a module whose requests are refused: they leave nothing behind."""
    catalog = tmp_path_factory.mktemp("shared") / "models.toml"
    catalog.write_text(CATALOG)
    with migrated_database(services) as database, serving(services.settings_for(database, models=catalog)) as app:
        yield app.test_client()


@pytest.fixture
def events(settings: Settings) -> Iterator[EventListener]:
    """A listener on the test's database that is connected."""
    made = EventListener(settings.direct_url, name="test")
    made.start()
    assert made._listener.connected.wait(30)
    yield made
    made.stop()


@pytest.fixture
def pictures_catalog(tmp_path: Path) -> Path:
    """A catalog with models that take pictures."""
    path = tmp_path / "models.toml"
    path.write_text(pictures.CATALOG)
    return path
