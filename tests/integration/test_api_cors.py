"""CORS: off, unless origins are named; then for them alone, and never with a browser's own credentials."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.app import create_app
from api.settings import ApiSettings
from storage.access.tokens import create_token
from storage.errors import OperatorError
from storage.postgres.database import Connection
from tests.api_app import post, serving

NAMED = "https://app.example.com"
OTHERS = ["https://evil.example", "http://app.example.com", "https://app.example.com.evil.example", "null"]
PATHS = ["/v1/predictions", "/predictions", "/v1/images/generations", "/v1/predictions/x/events", "/v1/nothing"]


@pytest.fixture
def guarded(api_settings: ApiSettings) -> Iterator[Flask]:
    """Two origins are named, and requests need a token."""
    update = {"cors_origins": f"{NAMED}, http://localhost:3000/", "auth": "tokens"}
    with serving(api_settings.model_copy(update=update)) as app:
        yield app


def preflight(client: FlaskClient, path: str, origin: str) -> TestResponse:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    return client.options(path, headers=headers)


def cors_headers(response: TestResponse) -> set[str]:
    return {name for name in response.headers.keys() if name.startswith("Access-Control-")}  # noqa: SIM118 (these headers iterate over pairs)


@pytest.mark.parametrize("path", PATHS)
def test_it_is_off_where_no_origin_is_named(client: FlaskClient, path: str) -> None:
    assert cors_headers(preflight(client, path, NAMED)) == set()
    assert cors_headers(client.get(path, headers={"Origin": NAMED})) == set()


@pytest.mark.parametrize("origin", [NAMED, "http://localhost:3000"])
def test_a_named_origin_may_ask_with_a_token_of_its_own(guarded: Flask, conn: Connection, origin: str) -> None:
    client = guarded.test_client()
    asked = preflight(client, "/v1/predictions", origin)  # browsers send no token with it
    assert asked.status_code == 200
    assert asked.headers["Access-Control-Allow-Origin"] == origin
    assert "POST" in asked.headers["Access-Control-Allow-Methods"]
    allowed = asked.headers["Access-Control-Allow-Headers"].lower()
    for header in ("authorization", "content-type", "idempotency-key", "prefer"):
        assert header in allowed
    token = create_token(conn, "page")
    made = post(client, headers={"Origin": origin, "Authorization": f"Bearer {token}"})
    assert made.status_code == 201
    assert made.headers["Access-Control-Allow-Origin"] == origin
    assert "Retry-After" in made.headers["Access-Control-Expose-Headers"]


def test_a_page_can_read_why_it_was_refused(guarded: Flask) -> None:
    refused = post(guarded.test_client(), headers={"Origin": NAMED})
    assert refused.status_code == 401
    assert refused.headers["Access-Control-Allow-Origin"] == NAMED


@pytest.mark.parametrize("origin", OTHERS)
@pytest.mark.parametrize("path", PATHS)
def test_no_other_origin_is_let_in(guarded: Flask, path: str, origin: str) -> None:
    client = guarded.test_client()
    assert cors_headers(preflight(client, path, origin)) == set()
    assert cors_headers(client.get(path, headers={"Origin": origin})) == set()


@pytest.mark.parametrize("origins", [NAMED, "*"])
def test_a_browsers_own_credentials_are_never_let_in_and_caches_keep_origins_apart(
    api_settings: ApiSettings, origins: str
) -> None:
    with serving(api_settings.model_copy(update={"cors_origins": origins})) as app:
        client = app.test_client()
        answers = [preflight(client, "/v1/predictions", NAMED), post(client, headers={"Origin": NAMED}), post(client)]
    for answer in answers:
        assert "Access-Control-Allow-Credentials" not in answer.headers
        assert "Origin" in answer.vary
        assert "Set-Cookie" not in answer.headers


def test_any_origin_may_be_named(api_settings: ApiSettings) -> None:
    with serving(api_settings.model_copy(update={"cors_origins": "*"})) as app:
        asked = preflight(app.test_client(), "/v1/predictions", "https://anything.example")
    assert asked.headers["Access-Control-Allow-Origin"] == "https://anything.example"


@pytest.mark.parametrize("wrong", ["app.example.com", "https://app.example.com/page", "ftp://app.example.com"])
def test_what_is_no_origin_is_refused_at_the_start(api_settings: ApiSettings, wrong: str) -> None:
    with pytest.raises(OperatorError, match="CORS_ORIGINS"):
        create_app(api_settings.model_copy(update={"cors_origins": wrong}))
