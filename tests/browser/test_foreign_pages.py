"""What a page of another origin can do to a Darkroom that needs no token, in a real Chromium: nothing.

`fetch` answers whether a page could read an answer; Postgres tells whether anything happened.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from playwright.sync_api import BrowserContext, Page

from storage.postgres.database import Connection, connect
from storage.predictions.finish import StoredImage, finish
from storage.predictions.render import open_renderer
from storage.s3.bucket import Bucket
from tests.browser.pages import PageServer
from tests.conftest import RunningServices
from tests.support.making import claim_one, count, submit_one, succeeded
from tests.support.serving import Service, serving

STRANGERS = ["evil.example", "127.0.0.1", "localhost"]  # another site, and other programs of this machine
NAMED = "app.example"
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
BODY = '{"model": "darkroom/nobody", "input": {"prompt": "drawn by a stranger"}}'

# Each is a promise of what the page could read: an empty string is nothing.
FETCH = """async ([url, options]) => {
    try { const answer = await fetch(url, options); return answer.type + " " + await answer.text() }
    catch (error) { return "" }
}"""
FORM = """([url, name, body]) => {
    const form = Object.assign(document.createElement("form"), {method: "POST", action: url, enctype: "text/plain"})
    form.append(Object.assign(document.createElement("input"), {name, value: body}))
    document.body.append(form); form.submit()
}"""
BEACON = """([url, type, body]) => navigator.sendBeacon(url, new Blob([body], {type}))"""
LOADS = """async ([tag, url]) => new Promise(done => {
    const element = document.createElement(tag)
    element.onload = () => done("loaded " + (element.naturalWidth ?? "")); element.onerror = () => done("refused")
    element.src = url; document.body.append(element)
})"""
WEBSOCKET = """async url => new Promise(done => {
    const socket = new WebSocket(url); let heard = ""
    socket.onmessage = message => { heard = message.data; socket.close() }
    socket.onclose = () => done(heard)
})"""
EVENTS = """async url => new Promise(done => {
    const source = new EventSource(url)
    const end = said => { source.close(); done(said) }
    source.addEventListener("queued", event => end(event.data)); source.onerror = () => end("")
})"""


@pytest.fixture(scope="module")
def service(
    services: RunningServices, elsewhere: PageServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """Open to this machine, as after `make up`; pages of one other origin are allowed."""
    folder = tmp_path_factory.mktemp("open")
    with serving(services, folder, workers=False, cors_origins=elsewhere.origin(NAMED)) as running:
        yield running


@pytest.fixture
def conn(service: Service) -> Iterator[Connection]:
    with connect(service.settings.database_url, application_name="test") as connection:
        yield connection


@pytest.fixture
def victim(service: Service, conn: Connection) -> dict[str, Any]:
    """A prediction that waits."""
    body = {"model": "darkroom/nobody", "input": {"prompt": "a secret"}}
    made: dict[str, Any] = requests.post(f"{service.url}/v1/predictions", json=body, timeout=30).json()
    return made


def visit(context: BrowserContext, elsewhere: PageServer, host: str) -> Page:
    page = context.new_page()
    page.goto(elsewhere.origin(host))
    return page


def has_submitted(conn: Connection) -> int:
    return count(conn, "predictions", "input->>'prompt' = 'drawn by a stranger'")


def status_of(conn: Connection, prediction: dict[str, Any]) -> str:
    row = conn.execute("SELECT status FROM predictions WHERE id = %s", (prediction["id"],)).fetchone()
    assert row is not None
    return str(row["status"])


@pytest.mark.parametrize("host", STRANGERS)
def test_a_strangers_page_draws_nothing_and_cancels_nothing(
    context: BrowserContext,
    elsewhere: PageServer,
    service: Service,
    conn: Connection,
    victim: dict[str, Any],
    host: str,
) -> None:
    page = visit(context, elsewhere, host)
    submit, cancel = victim["urls"]["get"].rpartition("/")[0], victim["urls"]["cancel"]
    for content_type in ("text/plain", "application/json", "application/x-www-form-urlencoded"):
        for mode in ("cors", "no-cors"):
            sent = {"method": "POST", "mode": mode, "headers": {"Content-Type": content_type}, "body": BODY}
            assert page.evaluate(FETCH, [submit, sent]) in ("", "opaque ")
        page.evaluate(BEACON, [submit, content_type, BODY])
    for mode in ("cors", "no-cors"):
        for credentials in ("omit", "include"):
            sent = {"method": "POST", "mode": mode, "credentials": credentials}
            assert page.evaluate(FETCH, [cancel, sent]) in ("", "opaque ")
    page.evaluate(BEACON, [cancel, "text/plain", ""])
    # A form: the body is `name=value`, which a `=` inside of a string makes whole.
    with page.expect_navigation():
        page.evaluate(FORM, [submit, BODY[:-2] + ', "x": "', '"}}'])
    assert page.evaluate("document.body.innerText").find('"status":403') > 0
    page.goto(elsewhere.origin(host))
    with page.expect_navigation():
        page.evaluate(FORM, [cancel, "a", "b"])
    assert has_submitted(conn) == 0
    assert status_of(conn, victim) == "starting"


@pytest.mark.parametrize("host", STRANGERS)
def test_a_strangers_page_reads_nothing(
    context: BrowserContext, elsewhere: PageServer, service: Service, victim: dict[str, Any], host: str
) -> None:
    page = visit(context, elsewhere, host)
    get = victim["urls"]["get"]
    for url in (
        f"{service.url}/v1/webhooks/default/secret",
        f"{service.url}/v1/predictions",
        get,
        f"{service.url}/metrics",
    ):
        for mode in ("cors", "no-cors"):
            assert page.evaluate(FETCH, [url, {"mode": mode}]) in ("", "opaque ")
        for tag in ("img", "script"):
            assert page.evaluate(LOADS, [tag, url]) == "refused"
    assert page.evaluate(EVENTS, f"{get}/events") == ""
    assert page.evaluate(WEBSOCKET, f"{get}/ws".replace("http://", "ws://")) == ""


def test_a_name_that_was_pointed_here_reads_nothing(
    context: BrowserContext, service: Service, conn: Connection, victim: dict[str, Any]
) -> None:
    """DNS rebinding: the page came from elsewhere, its name leads here by now, and all that it asks is same-origin."""
    port = urlsplit(service.url).port
    own = f"http://evil.example:{port}"
    page = context.new_page()
    page.route(f"{own}/", lambda route: route.fulfill(content_type="text/html", body="<!doctype html>"))
    page.goto(f"{own}/")
    assert page.evaluate("location.origin") == own
    sent = {"method": "POST", "headers": {"Content-Type": "application/json"}, "body": BODY}
    for path, options in (
        ("/v1/webhooks/default/secret", {}),
        (f"/v1/predictions/{victim['id']}", {}),
        ("/v1/predictions", sent),
        (f"/v1/predictions/{victim['id']}/cancel", {"method": "POST"}),
        ("/docs", {}),
    ):
        said = page.evaluate(FETCH, [path, options])
        assert '"status":421' in said, said
        assert "a secret" not in said
        assert "whsec_" not in said
    assert page.evaluate(WEBSOCKET, f"ws://evil.example:{port}/v1/predictions/{victim['id']}/ws") == ""
    assert has_submitted(conn) == 0
    assert status_of(conn, victim) == "starting"


def test_pages_of_the_api_itself_may_do_everything(
    context: BrowserContext, service: Service, victim: dict[str, Any]
) -> None:
    page = context.new_page()
    page.goto(service.url)
    assert "a secret" in page.evaluate(FETCH, [victim["urls"]["get"], {}])
    assert "queued" in page.evaluate(WEBSOCKET, f"{victim['urls']['get']}/ws".replace("http://", "ws://"))
    assert '"canceled"' in page.evaluate(FETCH, [victim["urls"]["cancel"], {"method": "POST"}])


def test_pages_of_a_named_origin_may_do_everything_with_any_headers(
    context: BrowserContext, elsewhere: PageServer, service: Service, victim: dict[str, Any]
) -> None:
    page = visit(context, elsewhere, NAMED)
    headers = {"Authorization": "Bearer none", "Content-Type": "application/json", "x-stainless-lang": "js"}
    body = '{"model": "darkroom/nobody", "input": {"prompt": "drawn for a friend"}}'
    url = f"{service.url}/v1/predictions"
    assert "drawn for a friend" in page.evaluate(FETCH, [url, {"method": "POST", "headers": headers, "body": body}])
    read = "async url => (await fetch(url)).headers.get('x-request-id')"
    assert page.evaluate(read, victim["urls"]["get"])
    assert "position" in page.evaluate(EVENTS, f"{victim['urls']['get']}/events")
    assert "queued" in page.evaluate(WEBSOCKET, f"{victim['urls']['get']}/ws".replace("http://", "ws://"))


def test_a_signed_url_is_a_permission_for_any_page(
    context: BrowserContext, elsewhere: PageServer, service: Service, conn: Connection, victim: dict[str, Any]
) -> None:
    """An image may be shown, and a WebSocket listened to; an EventSource is read only where CORS_ORIGINS allows it."""
    renderer = open_renderer(service.settings, conn)
    submit_one(conn)
    claimed = claim_one(conn, renderer)
    assert claimed is not None
    drawn = succeeded(claimed)
    stored = drawn.images[0]
    assert isinstance(stored, StoredImage)
    Bucket(service.settings).put(stored.key, PNG, "image/png")
    finish(conn, renderer, claimed.prediction_id, drawn, claim_id=claimed.claim_id)
    url = f"{service.url}/v1/predictions/{claimed.prediction_id}"
    image = requests.get(url, timeout=30).json()["output"][0]
    page = visit(context, elsewhere, "evil.example")
    assert page.evaluate(LOADS, ["img", image]) == "loaded 1"
    signed = victim["urls"]["events"]
    web = signed.replace("http://", "ws://").replace("/events?", "/ws?")
    assert "queued" in page.evaluate(WEBSOCKET, web)
    assert page.evaluate(WEBSOCKET, web.replace("signature=", "signature=0")) == ""
    assert page.evaluate(EVENTS, signed) == ""
    assert "position" in visit(context, elsewhere, NAMED).evaluate(EVENTS, signed)
