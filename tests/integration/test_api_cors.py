"""CORS: off, unless origins are named; then for them alone, and never with a browser's own credentials."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.app import create_app
from api.settings import ApiSettings
from storage.access.tokens import create_token
from storage.errors import OperatorError
from storage.postgres.database import Connection
from tests.support.api_app import post, serving

NAMED = "https://app.example.com"
APPS = ["app://obsidian.md", "tauri://localhost", "capacitor://localhost", "chrome-extension://abcdefghijklmnop"]
OTHERS = [
    "https://evil.example",
    "http://app.example.com",
    "https://app.example.com:8443",
    "https://app.example.com.evil.example",
    "app://obsidian.md.evil",
    "null",
    "",
]
PATHS = ["/v1/predictions", "/predictions", "/v1/images/generations", "/v1/predictions/x/events", "/v1/nothing"]
# What openai-node sends from a browser, as it names them in a preflight.
OPENAI_NODE = (
    "authorization,content-type,idempotency-key,x-stainless-arch,x-stainless-lang,x-stainless-os,"
    "x-stainless-package-version,x-stainless-retry-count,x-stainless-runtime,x-stainless-runtime-version,"
    "x-stainless-timeout"
)


@pytest.fixture
def guarded(api_settings: ApiSettings) -> Iterator[Flask]:
    """Some origins are named, and requests need a token."""
    update = {"cors_origins": f"{NAMED}, http://localhost:3000/, {', '.join(APPS)}", "auth": "tokens"}
    with serving(api_settings.model_copy(update=update)) as app:
        yield app


def preflight(client: FlaskClient, path: str, origin: str, **more: str) -> TestResponse:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    headers |= {f"Access-Control-Request-{name.replace('_', '-')}": value for name, value in more.items()}
    return client.options(path, headers=headers)


def cors_headers(response: TestResponse) -> set[str]:
    return {name for name in response.headers.keys() if name.startswith("Access-Control-")}  # noqa: SIM118 (these headers iterate over pairs)


def test_it_is_off_where_no_origin_is_named(client: FlaskClient) -> None:
    for path in PATHS:
        assert cors_headers(preflight(client, path, NAMED)) == set()
        assert cors_headers(client.get(path, headers={"Origin": NAMED})) == set()


def test_a_named_origin_may_ask_with_a_token_of_its_own(guarded: Flask, conn: Connection) -> None:
    client = guarded.test_client()
    token = create_token(conn, "page")
    for origin in (NAMED, "http://localhost:3000", *APPS):
        asked = preflight(client, "/v1/predictions", origin)  # browsers send no token with it
        assert asked.status_code == 200
        assert asked.headers["Access-Control-Allow-Origin"] == origin
        assert "POST" in asked.headers["Access-Control-Allow-Methods"]
        made = post(client, headers={"Origin": origin, "Authorization": f"Bearer {token}"})
        assert made.status_code == 201
        assert made.headers["Access-Control-Allow-Origin"] == origin
        exposed = made.headers["Access-Control-Expose-Headers"].lower().split(", ")
        assert {"retry-after", "x-request-id", "preference-applied", "location", "x-should-retry"} <= set(exposed)


def test_a_page_may_send_whatever_headers_its_client_library_adds(guarded: Flask) -> None:
    asked = preflight(guarded.test_client(), "/v1/images/generations", NAMED, Headers=OPENAI_NODE)
    assert asked.headers["Access-Control-Allow-Headers"] == OPENAI_NODE
    assert {"origin", "access-control-request-headers"} <= {name.lower() for name in asked.vary}


def test_header_names_that_are_none_are_not_echoed(guarded: Flask) -> None:
    client = guarded.test_client()
    for asked in ("", "a" * 5000, "x: y", "authorization\x01", "a,,b"):
        answer = preflight(client, "/v1/predictions", NAMED, Headers=asked)
        assert answer.headers["Access-Control-Allow-Headers"].startswith("Authorization, Content-Type, ")


def test_a_page_of_the_internet_may_reach_a_private_address_if_its_origin_is_named(guarded: Flask) -> None:
    client = guarded.test_client()
    allowed = preflight(client, "/v1/predictions", NAMED, Private_Network="true")
    assert allowed.headers["Access-Control-Allow-Private-Network"] == "true"
    assert "Access-Control-Allow-Private-Network" not in preflight(client, "/v1/predictions", NAMED).headers
    assert cors_headers(preflight(client, "/v1/predictions", "https://evil.example", Private_Network="true")) == set()


def test_a_page_can_read_why_it_was_refused(guarded: Flask) -> None:
    refused = post(guarded.test_client(), headers={"Origin": NAMED})
    assert refused.status_code == 401
    assert refused.headers["Access-Control-Allow-Origin"] == NAMED


def test_no_other_origin_is_let_in(guarded: Flask) -> None:
    client = guarded.test_client()
    for path, origin in product(PATHS, OTHERS):
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
        client = app.test_client()
        asked = preflight(client, "/v1/predictions", "https://anything.example")
        assert asked.headers["Access-Control-Allow-Origin"] == "https://anything.example"
        assert post(client, headers={"Origin": "https://anything.example"}).status_code == 201


def test_an_origin_that_no_browser_sends_is_refused_at_the_start(api_settings: ApiSettings) -> None:
    with pytest.raises(OperatorError, match=r"CORS_ORIGINS: 'https://\*\.example\.com' is a pattern"):
        create_app(api_settings.model_copy(update={"cors_origins": f"{NAMED}, https://*.example.com"}))
