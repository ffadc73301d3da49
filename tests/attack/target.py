"""The service under attack, its victim and its attacker: each has a token, and the victim has a picture."""

from __future__ import annotations

import hashlib
import secrets
import socket
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests

from tests.attack.bounds import AT_ONCE
from tests.support.serving import Service

MODEL = "darkroom/blank"
PROMPT = "the victim's secret prompt"
TIMEOUT_S = 60

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Client:
    """Sends requests with one token, or with none."""

    url: str
    token: str | None

    def send(self, method: str, path: str, **options: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        headers |= options.pop("headers", {})
        return requests.request(
            method, f"{self.url}{path}", headers=headers, timeout=TIMEOUT_S, allow_redirects=False, **options
        )

    def predict(self, **body: Any) -> requests.Response:
        inputs = {"prompt": secrets.token_hex(8)} | body.pop("input", {})
        return self.send("POST", "/v1/predictions", json={"model": MODEL, "input": inputs} | body)


@dataclass(frozen=True)
class Target:
    service: Service
    victim: Client
    attacker: Client
    picture: dict[str, Any]  # the victim's finished prediction
    sha256: str  # of its image

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.service.url)
        assert parts.hostname is not None
        assert parts.port is not None
        return parts.hostname, parts.port

    @property
    def nobody(self) -> Client:
        """A client without a token."""
        return Client(self.service.url, None)

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=TIMEOUT_S)

    def send_raw(self, request: bytes) -> bytes:
        """Everything that comes back for these bytes until the server closes, or is silent for 3 s."""
        answer = b""
        with closing(self.connect()) as connection:
            connection.sendall(request)
            connection.settimeout(3)
            try:
                while chunk := connection.recv(65536):
                    answer += chunk
            except (TimeoutError, ConnectionResetError):
                pass
        return answer

    def assert_unharmed(self) -> None:
        """The victim's picture is still there and still secret, and the service answers everybody."""
        assert self.nobody.send("GET", "/healthz").status_code == 200
        assert self.nobody.send("GET", "/readyz").status_code == 200
        read = self.victim.send("GET", f"/v1/predictions/{self.picture['id']}")
        assert read.json() == self.picture
        image = requests.get(self.picture["output"][0], timeout=TIMEOUT_S)
        assert hashlib.sha256(image.content).hexdigest() == self.sha256
        assert self.attacker.send("GET", f"/v1/predictions/{self.picture['id']}").status_code == 404
        drawn = self.victim.predict(input={"num_inference_steps": 1}).json()
        assert drawn["status"] in {"starting", "processing", "succeeded"}


def all_at_once(function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """The results of the function for all items, several at the same time."""
    with ThreadPoolExecutor(AT_ONCE) as threads:
        return list(threads.map(function, items))
