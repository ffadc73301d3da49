"""A web page of another origin gets nothing out of the API, and nothing into it, unless CORS_ORIGINS names it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api import auth
from api.auth import OPEN
from api.browsers.cross_site import FOR_ALL_PAGES
from api.docs.operation import operations_of
from api.settings import ApiSettings
from storage.access.tokens import create_token
from storage.postgres.database import Connection
from storage.predictions.finish import finish
from storage.predictions.render import Renderer
from tests.support.api_app import MODEL, post, problem, serving, submit
from tests.support.making import claim_one, count, succeeded

EVIL = "http://evil.example"
BODY = json.dumps({"model": MODEL, "input": {"prompt": "a red circle"}})
JSON = {"Content-Type": "application/json"}
# What a browser says about a request of a page elsewhere: of another site, of another port, of a form, of an <img>.
FOREIGN = [
    {"Origin": EVIL, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"},
    {"Origin": EVIL},  # to an address that is neither HTTPS nor loopback, browsers send no Sec-Fetch-Site
    {"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"},
    {"Origin": "https://localhost", "Sec-Fetch-Site": "same-site"},  # our host, from another program
    {"Origin": "null", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
    {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
]
# Programs, the API's own pages, and what somebody types into the address bar.
OWN: list[dict[str, str]] = [
    {},
    {"Sec-Fetch-Mode": "cors"},  # fetch of Node
    {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"},
    {"Origin": "http://localhost"},
    {"Origin": "https://localhost"},  # behind a proxy that ends TLS
    {
        "Origin": "http://127.0.0.1:8000",
        "Sec-Fetch-Site": "same-origin",
    },  # PUBLIC_URL, behind a proxy with its own Host
    {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"},
]


@pytest.fixture
def guarded(api_settings: ApiSettings) -> Iterator[Flask]:
    with serving(api_settings.model_copy(update={"auth": "tokens"})) as app:
        yield app


def routes(app: Flask) -> list[tuple[str, str]]:
    """Every route that is not for all pages, as a method and a path."""
    found = []
    for rule in app.url_map.iter_rules():
        if rule.websocket or hasattr(app.view_functions[rule.endpoint], FOR_ALL_PAGES):
            continue
        path = rule.rule
        for argument in rule.arguments:
            path = path.replace(f"<{argument}>", "x")
        found += [(method, path) for method in sorted((rule.methods or set()) - {"OPTIONS"})]
    return found


def test_every_route_refuses_other_sites_and_says_what_would_allow_them(client: FlaskClient, app: Flask) -> None:
    for method, path in routes(app):
        for headers in FOREIGN:
            answer = client.open(path, method=method, headers=JSON | headers, data=BODY if method == "POST" else None)
            assert answer.status_code == 403, (method, path, headers, answer.text)
            assert method == "HEAD" or "CORS_ORIGINS=" in answer.text
            assert "Access-Control-Allow-Origin" not in answer.headers


def test_only_what_tells_nothing_or_has_a_signature_is_for_all_pages(app: Flask) -> None:
    views = {rule.rule: app.view_functions[rule.endpoint] for rule in app.url_map.iter_rules()}
    for_all = {rule for rule, view in views.items() if hasattr(view, FOR_ALL_PAGES)}
    signed = {f"/files/<prediction_id>/{name}" for name in ("stream", "events", "ws")}
    signed.add("/files/<file_id>/download")
    assert for_all == {
        "/",
        "/assets/<version>/<path:name>",
        "/status",
        "/docs",
        "/openapi.json",
        "/healthz",
        "/readyz",
        "/v1/files/<prediction_id>/<name>",
        *signed,
        *(f"/v1{path}" for path in signed),
    }
    assert all(hasattr(views[rule], OPEN) for rule in for_all)


def test_programs_and_own_pages_may_do_everything(client: FlaskClient) -> None:
    for headers in OWN:
        made = submit(client, headers=headers)
        assert client.get(f"/v1/predictions/{made['id']}", headers=headers).status_code == 200
        assert client.post(f"/v1/predictions/{made['id']}/cancel", headers=headers).status_code == 200


def test_a_refused_request_changes_nothing(client: FlaskClient, conn: Connection) -> None:
    made = submit(client)
    for headers in FOREIGN:
        problem(post(client, headers=headers), 403)
        problem(client.post(f"/v1/predictions/{made['id']}/cancel", headers=headers), 403)
    assert count(conn, "predictions") == 1
    assert client.get(f"/v1/predictions/{made['id']}").get_json()["status"] == "starting"


def test_with_tokens_too_and_before_the_token_is_looked_at(guarded: Flask, conn: Connection) -> None:
    client, token = guarded.test_client(), {"Authorization": f"Bearer {create_token(conn, 'page')}"}
    for headers in FOREIGN:
        problem(client.get("/v1/predictions", headers=headers | token), 403)
        problem(client.get("/v1/predictions", headers=headers), 403)
    assert client.get("/v1/predictions", headers=OWN[2] | token).status_code == 200


def test_a_named_origin_may_and_so_may_its_requests_without_cors_if_all_are_named(api_settings: ApiSettings) -> None:
    image = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}  # names no origin
    for named, expected in ((EVIL, 403), ("*", 200)):
        with serving(api_settings.model_copy(update={"cors_origins": named})) as app:
            client = app.test_client()
            assert post(client, headers=FOREIGN[0]).status_code == 201
            assert client.get("/v1/predictions", headers=image).status_code == expected


def test_a_body_has_to_say_that_it_is_json(app: Flask, client: FlaskClient, conn: Connection) -> None:
    bodies = {(each.method, each.path) for each in operations_of(app) if each.body is not None}
    assert {("post", "/v1/predictions"), ("patch", "/v1/deployments/{owner}/{deployment}")} <= bodies
    named = {"owner": "darkroom", "name": "blank", "deployment": "pictures", "prediction_id": "0" * 26}
    deployment = {"name": "pictures", "model": MODEL, "min_instances": 0, "max_instances": 1}
    assert client.post("/v1/deployments", json=deployment).status_code == 200
    content_types = (
        None,
        "",
        "text/plain",
        "text/plain; charset=application/json",
        "text/plain;application/json",
        "text/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=application/json",
        "application/jsonx",
        "x/application/json",
    )
    for (method, path), content_type in product(bodies, content_types):
        answer = client.open(path.format(**named), method=method.upper(), data=BODY, content_type=content_type)
        assert answer.status_code == 415, (path, content_type, answer.text)
        assert "Content-Type: application/json" in answer.text
    assert count(conn, "predictions") == 0


def test_json_may_be_called_so_in_every_way_that_needs_permission(client: FlaskClient) -> None:
    for content_type in ("application/json", "Application/JSON; charset=utf-8", "application/vnd.api+json"):
        assert client.post("/v1/predictions", data=BODY, content_type=content_type).status_code == 201


def test_while_open_a_name_that_was_pointed_here_gets_no_answer(
    api_settings: ApiSettings, conn: Connection, renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "REMEMBER_S", 0.0)
    with serving(api_settings) as app:
        client = app.test_client()
        submit(client)
        claimed = claim_one(conn, renderer)
        assert claimed is not None
        finish(conn, renderer, claimed.prediction_id, succeeded(claimed), claim_id=claimed.claim_id)
        image = client.get(f"/v1/predictions/{claimed.prediction_id}").get_json()["output"][0]
        signed = image.removeprefix("http://127.0.0.1:8000")
        paths = ["/v1/predictions", "/v1/webhooks/default/secret", "/", "/docs", "/openapi.json", "/v1/nothing", signed]
        for path in paths:
            for host in ("evil.example:8000", "127.0.0.1.evil.example:8000", "evil.localhost:8000", ""):
                refused = problem(client.get(path, headers={"Host": host}), 421)
                assert "ALLOWED_HOSTS" in refused["detail"]
        for health in ("/healthz", "/readyz"):  # load balancers ask under names of their own
            assert client.get(health, headers={"Host": "evil.example"}).status_code == 200
        create_token(conn, "first")  # from now on the token keeps strangers out, and any name will do
        problem(client.get("/v1/predictions", headers={"Host": "evil.example:8000"}), 401)


def test_auth_none_is_open_and_allowed_hosts_are_answered(api_settings: ApiSettings) -> None:
    update = {"auth": "none", "allowed_hosts": "darkroom-api", "public_url": "https://draw.example.com/base"}
    with serving(api_settings.model_copy(update=update)) as app:
        client = app.test_client()
        for host in ("darkroom-api:8000", "draw.example.com", "localhost"):
            assert client.get("/v1/predictions", headers={"Host": host}).status_code == 200
        problem(client.get("/v1/predictions", headers={"Host": "evil.example"}), 421)
        behind_a_proxy: dict[str, Any] = {"Host": "darkroom-api:8000", "Origin": "https://draw.example.com"}
        assert post(client, headers=behind_a_proxy).status_code == 201
