"""The page's files over HTTP. What it does is tried in tests/browser/."""

from __future__ import annotations

import gzip
import re

import pytest
from flask.testing import FlaskClient

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def test_browsers_get_the_page_and_programs_get_text(client: FlaskClient) -> None:
    page = client.get("/", headers=BROWSER)
    assert page.content_type == "text/html; charset=utf-8"
    assert "Accept" in page.headers["Vary"]
    assert client.get("/", headers={"Accept": "*/*"}).content_type.startswith("text/plain")


def test_a_file_may_be_kept_for_ever_under_its_version_only(client: FlaskClient) -> None:
    path = script(client)
    file = client.get(path)
    assert file.content_type == "text/javascript; charset=utf-8"
    assert file.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    for missing in (path.replace("main.js", "nothing.js"), re.sub("/assets/[0-9a-f]+/", "/assets/0/", path)):
        answer = client.get(missing)
        assert answer.status_code == 404
        assert "immutable" not in answer.headers.get("Cache-Control", "")
    assert client.get(path.replace("main.js", "../views.py")).status_code == 404


@pytest.mark.parametrize("path", ["/", "script"])
def test_what_is_unchanged_is_not_sent_again(client: FlaskClient, path: str) -> None:
    url = script(client) if path == "script" else path
    for accepted in ("gzip", "identity"):
        headers = {**BROWSER, "Accept-Encoding": accepted}
        tag = client.get(url, headers=headers).headers["ETag"]
        assert client.get(url, headers=headers | {"If-None-Match": tag}).status_code == 304


@pytest.mark.parametrize("path", ["/", "script", "/v1/models"])
def test_clients_that_accept_gzip_get_less(client: FlaskClient, path: str) -> None:
    url = script(client) if path == "script" else path
    plain = client.get(url, headers=BROWSER)
    refused = client.get(url, headers={**BROWSER, "Accept-Encoding": "br, gzip;q=0"})
    small = client.get(url, headers={**BROWSER, "Accept-Encoding": "br, gzip"})
    assert "Content-Encoding" not in plain.headers
    assert refused.data == plain.data
    assert small.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(small.data) == plain.data
    assert len(small.data) == small.content_length < len(plain.data)
    assert all("Accept-Encoding" in each.headers["Vary"] for each in (plain, small))


def script(client: FlaskClient) -> str:
    """The path of the page's first module."""
    found = re.search(r'<script type="module" src="([^"]+)"', client.get("/", headers=BROWSER).text)
    assert found is not None
    return f"/{found[1]}"
