"""The Darkroom that a command talks to: DARKROOM_URL's, or the `darkroom up` that runs on this machine."""

from __future__ import annotations

import json
import os
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import click
import urllib3

from storage.errors import OperatorError

CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 75.0  # longer than `Prefer: wait` and than the silence of a stream
TRIES = 3  # of what may be sent again

data_option = click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=Path(".darkroom"),
    show_default=True,
    help="The folder of a running `darkroom up`, where DARKROOM_URL is not set.",
)


ID = re.compile(r"[0-9A-Za-z_-]+")


class RequestRefused(OperatorError):
    """The server answered, but not with what was asked for."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def prediction_path(prediction_id: str, action: str = "") -> str:
    """The route of a prediction. Raises OperatorError for what is no id.

    Ids come from command lines and from language models. One with a slash or a question mark would lead to another
    route, or to a file of the caller, whose content would then pass for a prediction.
    """
    if not ID.fullmatch(prediction_id):
        raise OperatorError(f"{prediction_id!r} is not the id of a prediction: `darkroom list` shows the ids.")
    return f"/v1/predictions/{prediction_id}" + (f"/{action}" if action else "")


class Server:
    """A Darkroom by its URL. The token goes to this server only: no redirect is followed."""

    def __init__(self, url: str, token: str = "") -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise OperatorError(f"DARKROOM_URL is {url!r}, which is no URL such as https://draw.example.com")
        self.url = url.rstrip("/").removesuffix("/v1")
        self._token = token
        retries = urllib3.Retry(TRIES, redirect=False, backoff_factor=0.3, status=0)
        self._pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S), retries=retries
        )

    def get(self, path: str, **query: Any) -> Any:
        """The JSON of `GET {path}`; parameters that are None are left out."""
        given = {name: value for name, value in query.items() if value is not None}
        return self._json("GET", path + (f"?{urlencode(given)}" if given else ""))

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        return self._json("POST", path, body, headers)

    def delete(self, path: str) -> None:
        self._answer("DELETE", path, None, {}).release_conn()

    def first_model(self) -> str:
        """The model that is drawn with where none is named. Raises OperatorError if there is none."""
        models = self.get("/v1/models")["results"]
        if not models:
            raise OperatorError(f"{self.url} serves no model.")
        return f"{models[0]['owner']}/{models[0]['name']}"

    @contextmanager
    def stream(self, path: str) -> Iterator[urllib3.BaseHTTPResponse]:
        """An open answer, such as a stream of events. Raises OperatorError."""
        answer = self._answer("GET", path, None, {"Accept": "text/event-stream"}, preload=False)
        try:
            yield answer
        finally:
            answer.close()

    def file(self, url: str) -> bytes:
        """The bytes of a picture. Its URL is signed, so the token is not sent: it may be on another host."""
        answer = self._request("GET", url, None, {})
        if answer.status != 200:
            raise RequestRefused(f"{url} answered {answer.status}.", answer.status)
        return answer.data

    def _json(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        answer = self._answer(method, path, body, headers or {})
        try:
            return json.loads(answer.data)
        except ValueError:
            raise OperatorError(f"{self.url}{path} did not answer with JSON: is this a Darkroom?") from None

    def _answer(
        self, method: str, path: str, body: Any, headers: dict[str, str], *, preload: bool = True
    ) -> urllib3.BaseHTTPResponse:
        own = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        answer = self._request(method, self.url + path, body, own | headers, preload=preload)
        if answer.status < 300:
            return answer
        raise RequestRefused(self._reason(answer, path), answer.status)

    def _request(
        self, method: str, url: str, body: Any, headers: dict[str, str], *, preload: bool = True
    ) -> urllib3.BaseHTTPResponse:
        if body is not None:
            headers = headers | {"Content-Type": "application/json"}
        try:
            return self._pool.request(
                method,
                url,
                body=None if body is None else json.dumps(body).encode(),
                headers=headers,
                preload_content=preload,
                redirect=False,
            )
        except (urllib3.exceptions.HTTPError, ssl.SSLError, OSError) as error:
            cause = getattr(error, "reason", None) or error
            raise OperatorError(f"{self.url} can't be reached: {_short(cause)}.") from None

    def _reason(self, answer: urllib3.BaseHTTPResponse, path: str) -> str:
        """What the server says of a request that it refuses, in its own words."""
        try:
            problem = json.loads(answer.data)
            detail = problem.get("detail") or problem.get("title") or ""
        except (ValueError, AttributeError):
            detail = ""
        if answer.status == 401:
            detail = f"{detail.rstrip('.')}. Set DARKROOM_TOKEN to a token of this service."
        elif 300 <= answer.status < 400:
            detail = f"it leads to {answer.headers.get('Location', 'another place')}: set DARKROOM_URL to that"
        return f"{self.url}{path.partition('?')[0]} answered {answer.status}: {detail.strip() or answer.reason}"


def find_server(data: Path) -> Server:
    """The server that DARKROOM_URL names, or the running `darkroom up`. Raises OperatorError if there is none."""
    from cli.supervision.data_folder import DataFolder

    url = os.environ.get("DARKROOM_URL") or DataFolder(data).url_in_use()
    if not url:
        raise OperatorError(
            f"No `darkroom up` runs on {data}: start it (or name its folder with --data), or set DARKROOM_URL"
            " (and DARKROOM_TOKEN) to a Darkroom elsewhere."
        )
    return Server(url, os.environ.get("DARKROOM_TOKEN", ""))


def _short(cause: object) -> str:
    """urllib3's messages begin with the object that they are about."""
    return str(cause).rpartition(">: ")[2].rpartition("): ")[2].rstrip(".") or type(cause).__name__
