"""The events of all of a caller's predictions on one connection."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests
from PIL import Image
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as connect_websocket
from websockets.typing import Subprotocol

from storage.access.tokens import create_token
from storage.postgres.database import Connection
from tests.clients.guarding import inputs
from tests.clients.listening import Listener
from tests.support.drawing_news import drawing_news
from tests.support.serving import Service

SLOW = "darkroom/slow"
NOBODYS = "darkroom/nobody"  # no worker serves it


class Caller:
    """A client with a token, or without."""

    def __init__(self, service: Service, token: str | None = None) -> None:
        self._url = service.url
        self.token = token
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def submit(self, model: str, **more: Any) -> Any:
        return self._send("POST", "/v1/predictions", json={"model": model, "input": inputs()} | more).json()

    def get(self, id_: str) -> Any:
        return self._send("GET", f"/v1/predictions/{id_}").json()

    def cancel(self, id_: str) -> None:
        self._send("POST", f"/v1/predictions/{id_}/cancel")

    def keep(self, id_: str, *, keep: bool) -> None:
        self._send("POST", f"/v1/predictions/{id_}/keep", json={"keep": keep})

    def delete(self, id_: str) -> None:
        self._send("DELETE", f"/v1/predictions/{id_}")

    @contextmanager
    def events(self) -> Iterator[Listener]:
        with Listener(f"{self._url}/v1/events?", headers=self._headers) as listener:
            assert listener.next()[::2] == ("ready", {})
            yield listener

    def _send(self, method: str, path: str, **more: Any) -> requests.Response:
        answer = requests.request(method, self._url + path, headers=self._headers, timeout=60, **more)
        assert answer.ok, answer.text
        return answer


@pytest.fixture
def open_caller(service: Service) -> Caller:
    return Caller(service)


@pytest.fixture
def callers(guarded: Service, database: Connection, request: pytest.FixtureRequest) -> tuple[Caller, Caller]:
    name = request.node.name[:40]
    return tuple(Caller(guarded, create_token(database, f"{name} {i}")) for i in (1, 2))  # type: ignore[return-value]


def about(events: list[tuple[str, str, Any]], id_: str) -> list[tuple[str, Any]]:
    """The events of one prediction."""
    return [(name, data) for name, _, data in events if data.get("id") == id_]


def until_over(listener: Listener, id_: str) -> list[tuple[str, Any]]:
    """What is told of a prediction, to its end."""
    told: list[tuple[str, Any]] = []
    while not (told and told[-1][0] == "prediction" and told[-1][1]["completed_at"]):
        told += about([listener.next()], id_)
    return told


def test_all_that_happens_to_a_prediction_is_told(callers: tuple[Caller, Caller]) -> None:
    caller, _ = callers
    with caller.events() as listener:
        made = caller.submit(SLOW)
        told = until_over(listener, made["id"])
    states = [data["status"] for name, data in told if name == "prediction"]
    # A state that lasts for less than it takes to gather what happened is not told.
    assert states in (["starting", "processing", "succeeded"], ["processing", "succeeded"])
    steps = [data["step"] for name, data in told if name == "progress"]
    assert steps == sorted(set(steps))
    assert len(steps) >= 2
    assert {name for name, _ in told} <= {"prediction", "queued", "progress"}
    assert told[-1] == ("prediction", caller.get(made["id"]))


def test_nobody_hears_of_another_tokens_predictions(callers: tuple[Caller, Caller], guarded: Service) -> None:
    mine, other = callers
    with mine.events() as listener, drawing_news(guarded.settings) as news:
        theirs = other.submit(SLOW)
        news.tell(theirs["id"], 1, 8, Image.new("RGB", (8, 8)))  # as an older release tells it: of whom, it doesn't say
        with other.events() as theirs_heard:
            other.keep(theirs["id"], keep=True)
            told: list[tuple[str, Any]] = []
            while not any(name == "prediction" for name, _ in told):  # its place may be told first, if it still waits
                told += about([theirs_heard.next()], theirs["id"])
        other.delete(theirs["id"])
        made = mine.submit(NOBODYS)
        heard = [listener.next(), listener.next()]
        assert heard[0][::2] == ("prediction", made)
        assert {data["id"] for _, _, data in heard} == {made["id"]}
        mine.cancel(made["id"])
        assert [name for name, _ in until_over(listener, made["id"])] == ["prediction"]


def test_keep_delete_and_cancel_are_told(open_caller: Caller) -> None:
    with open_caller.events() as listener:
        made = open_caller.submit(NOBODYS)
        open_caller.keep(made["id"], keep=True)
        told: list[tuple[str, Any]] = []
        while not any(data.get("keep") for name, data in told if name == "prediction"):
            told += about([listener.next()], made["id"])
        open_caller.cancel(made["id"])
        assert until_over(listener, made["id"])[-1][1]["status"] == "canceled"
        open_caller.keep(made["id"], keep=False)
        [(name, data)] = about([listener.next()], made["id"])
        assert (name, data["keep"], data["status"]) == ("prediction", False, "canceled")
        open_caller.delete(made["id"])
        assert about([listener.next()], made["id"]) == [("deleted", {"id": made["id"]})]


def test_places_of_what_waited_before_and_of_what_comes_are_told(callers: tuple[Caller, Caller]) -> None:
    caller, _ = callers
    before = caller.submit(NOBODYS)
    with caller.events() as listener:
        name, _, first = listener.next()
        assert (name, first["id"]) == ("queued", before["id"])
        behind = caller.submit(NOBODYS)
        told: dict[str, int] = {}
        while behind["id"] not in told:
            name, _, data = listener.next()
            told |= {data["id"]: data["position"]} if name == "queued" else {}
        assert told[behind["id"]] > first["position"]
        caller.cancel(before["id"])
        while told[behind["id"]] > first["position"]:
            name, _, data = listener.next()
            told |= {data["id"]: data["position"]} if name == "queued" else {}
        caller.cancel(behind["id"])


def test_previews_are_told_with_their_prediction(open_caller: Caller) -> None:
    with open_caller.events() as listener:
        made = open_caller.submit(SLOW)
        told = until_over(listener, made["id"])
        assert [name for name, _ in told].count("preview") == 0  # it didn't ask for them
        made = open_caller.submit(SLOW, input=inputs() | {"previews": True})
        told = until_over(listener, made["id"])
        previews = [data["image"] for name, data in told if name == "preview"]
        assert all(image.startswith("data:image/webp;base64,") for image in previews)


def test_the_same_over_a_websocket_with_the_token_as_a_subprotocol(
    guarded: Service, callers: tuple[Caller, Caller]
) -> None:
    caller, _ = callers
    assert caller.token is not None
    with websocket(guarded, caller.token) as socket:
        assert socket.subprotocol == "darkroom"
        assert json.loads(socket.recv(timeout=60)) == {"event": "ready", "data": {}}
        made = caller.submit(SLOW)
        statuses = []
        while "succeeded" not in statuses:
            message = json.loads(socket.recv(timeout=60))
            assert message["data"]["id"] == made["id"]
            if message["event"] == "prediction":
                statuses.append(message["data"]["status"])
        assert statuses[-2:] == ["processing", "succeeded"]


@pytest.mark.parametrize("sent", ["", "dr_nonsense"])
def test_a_websocket_without_a_good_token_is_refused(guarded: Service, sent: str) -> None:
    with pytest.raises(InvalidStatus) as refused, websocket(guarded, sent):
        pass
    assert refused.value.response.status_code == 401


def test_the_subprotocol_is_no_token_for_other_requests(guarded: Service, callers: tuple[Caller, Caller]) -> None:
    """A page of another site could make a browser send it, so it counts for WebSockets alone."""
    headers = {"Sec-WebSocket-Protocol": f"darkroom, darkroom.token.{callers[0].token}"}
    assert requests.get(f"{guarded.url}/v1/predictions", headers=headers, timeout=60).status_code == 401


def test_wrong_requests_are_told_why(service: Service) -> None:
    assert requests.get(f"{service.url}/v1/events?since=3", timeout=60).status_code == 422
    plain = requests.get(f"{service.url}/v1/events/ws", timeout=60)
    assert plain.status_code == 426
    assert "/events" in plain.json()["detail"]


def websocket(service: Service, token: str) -> Any:
    url = f"{service.url}/v1/events/ws".replace("http://", "ws://")
    offered = [Subprotocol("darkroom"), Subprotocol(f"darkroom.token.{token}")]
    connection: ClientConnection = connect_websocket(url, subprotocols=offered, proxy=None)
    return connection
