"""Our own events of a prediction, over server-sent events and over WebSocket, as they arrive at a client."""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import requests
from PIL import Image
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect as connect_websocket

from storage.postgres.database import connect
from storage.workers.load_times import write_load_time
from storage.workers.registry import WorkerRow, say_alive, say_goodbye
from storage.workers.step_costs import StepCost, write_step_costs
from tests.clients.listening import Listener
from tests.support.drawing_news import as_webp, drawing_news
from tests.support.serving import Service

SLOW = {"model": "darkroom/slow", "input": {"prompt": "a red circle"}}
NOBODYS = {"model": "darkroom/nobody", "input": {"prompt": "a red circle"}}


def post(service: Service, body: dict[str, Any]) -> dict[str, Any]:
    answer = requests.post(f"{service.url}/v1/predictions", json=body, timeout=30)
    assert answer.status_code == 201, answer.text
    prediction: dict[str, Any] = answer.json()
    return prediction


def cancel(service: Service, prediction: dict[str, Any]) -> None:
    requests.post(f"{service.url}/v1/predictions/{prediction['id']}/cancel", timeout=30).raise_for_status()


def events_url(service: Service, prediction: dict[str, Any]) -> str:
    return f"{service.url}/v1/predictions/{prediction['id']}/events"


def names(events: list[tuple[str, str, Any]]) -> list[str]:
    return [name for name, _, _ in events]


def test_events_tell_the_whole_story(service: Service) -> None:
    prediction = post(service, SLOW)
    with Listener(events_url(service, prediction)) as listener:
        events = listener.until("done")
    told = names(events)
    assert told[-2:] == ["output", "done"]
    assert set(told) <= {"queued", "progress", "output", "done"}
    steps = [data["step"] for name, _, data in events if name == "progress"]
    assert steps == sorted(set(steps))
    assert len(steps) >= 2
    done = events[-1][2]
    assert done["status"] == "succeeded"
    assert events[-2][2]["output"] == done["output"]
    assert done == requests.get(f"{service.url}/v1/predictions/{prediction['id']}", timeout=30).json()


def test_queued_says_the_position_and_no_start_where_nothing_was_measured(service: Service) -> None:
    first, second = post(service, NOBODYS), post(service, NOBODYS)
    with Listener(events_url(service, first)) as one, Listener(events_url(service, second)) as other:
        name, _, before = one.next()
        assert name == "queued"
        name, _, behind = other.next()
        assert name == "queued"
        assert behind["position"] > before["position"] >= 1
        for told in (before, behind):  # no worker ever served this model
            assert (told["estimated_start"], told["estimated_wait_seconds"]) == (None, None)
            assert "was not measured here" in told["reason"]
        cancel(service, first)
        assert names(one.until("done")) == ["done"]
        name, _, moved = other.next()  # up by one, without asking
        assert (name, moved["position"]) == ("queued", behind["position"] - 1)
        cancel(service, second)


def test_queued_says_a_start_that_counts_the_cold_start_and_the_steps_of_those_before(service: Service) -> None:
    """What was measured is written as a worker writes it."""
    worker = WorkerRow(id=uuid4(), hostname="elsewhere", pid=1, model="darkroom/nobody", state="loading")
    device, model, pixels = "a test's device", worker.model, 1024 * 1024
    costs = [StepCost(images, images * pixels, images * 0.5, None, samples=10) for images in (1, 2)]
    with connect(service.settings.database_url, application_name="test") as conn:
        try:
            say_alive(conn, worker)
            write_load_time(conn, worker.id, device=device, version="1", since_start_s=40.0, joins_midway=True)
            say_goodbye(conn, worker.id)
            write_step_costs(conn, costs, device=device, model=model, version="1")
            long = {"prompt": "a red circle", "num_inference_steps": 50}
            first, second = post(service, NOBODYS | {"input": long}), post(service, NOBODYS)
            with Listener(events_url(service, first)) as one, Listener(events_url(service, second)) as other:
                before, behind = one.next()[2], other.next()[2]
            for prediction in (first, second):
                cancel(service, prediction)
            waits = [told["estimated_wait_seconds"] for told in (before, behind)]
            assert waits[0] == pytest.approx(40, abs=5)
            assert waits[1] - waits[0] == pytest.approx(50 * 0.5, abs=5)
        finally:
            conn.execute("DELETE FROM load_times WHERE model = %s", (model,))
            conn.execute("DELETE FROM step_costs WHERE model = %s", (model,))


def test_loading_is_told_while_a_worker_loads_and_no_time_when_it_can_not(service: Service) -> None:
    """The rows are written as a worker writes them: the blank engine has nothing that takes long."""
    prediction = post(service, NOBODYS)
    with (
        Listener(events_url(service, prediction)) as listener,
        connect(service.settings.database_url, application_name="test") as conn,
    ):
        assert listener.next()[0] == "queued"
        worker = WorkerRow(id=uuid4(), hostname="elsewhere", pid=1, model="darkroom/nobody", state="loading")
        say_alive(conn, worker)
        name, _, data = listener.next()
        assert name == "loading"
        assert data["position"] >= 1
        say_alive(conn, replace(worker, state="failed", error="no weights"))
        name, _, data = listener.next()
        assert (name, data["estimated_start"], data["estimated_wait_seconds"]) == ("queued", None, None)
        assert "no worker could start" in data["reason"]
        conn.execute("DELETE FROM workers WHERE id = %s", (worker.id,))
        cancel(service, prediction)
        assert listener.until("done")[-1][2]["status"] == "canceled"


def test_previews_arrive(service: Service) -> None:
    prediction = post(service, NOBODYS | {"previews": True})
    picture = Image.new("RGB", (16, 16), "red")
    with Listener(events_url(service, prediction)) as listener, drawing_news(service.settings) as news:
        listener.next()
        news.tell(prediction["id"], 1, 8, picture)
        image = listener.until("preview")[-1][2]["image"]
        assert image == f"data:image/webp;base64,{base64.b64encode(as_webp(picture)).decode()}"
        cancel(service, prediction)


def test_who_comes_late_or_again_gets_the_present_state(service: Service) -> None:
    prediction = post(service, SLOW)
    with Listener(events_url(service, prediction)) as listener:
        event_id = listener.until("progress")[-1][1]
    with Listener(events_url(service, prediction), last_event_id=event_id) as again:
        assert again.next()[0] == "progress"
        done_id = again.until("done")[-1][1]
    with Listener(events_url(service, prediction)) as late:
        assert names(late.until("done")) == ["output", "done"]
    over = requests.get(events_url(service, prediction), headers={"Last-Event-ID": done_id}, timeout=30)
    assert over.status_code == 204  # a browser's EventSource stops connecting


def test_a_replicate_stream_goes_on_where_it_was_cut(service: Service) -> None:
    prediction = post(service, SLOW)
    with Listener(prediction["urls"]["stream"], parse=False) as listener:
        _, event_id, first = listener.until("logs")[-1]
    with Listener(prediction["urls"]["stream"], parse=False, last_event_id=event_id) as again:
        rest = [data for name, _, data in again.until("done") if name == "logs"]
    logs = requests.get(prediction["urls"]["get"], timeout=30).json()["logs"]
    assert first + "".join(rest) == logs


@pytest.mark.parametrize("which", ["stream", "events"])
def test_a_changed_link_is_refused(service: Service, which: str) -> None:
    prediction = post(service, NOBODYS)
    cancel(service, prediction)
    url = prediction["urls"][which]
    assert requests.get(url, timeout=30).status_code == 200
    for changed in (url[:-1] + ("0" if url[-1] != "0" else "1"), url.replace("expires=", "expires=1")):
        assert requests.get(changed, timeout=30).status_code == 403
    other = post(service, NOBODYS)
    cancel(service, other)
    assert requests.get(url.replace(prediction["id"], other["id"]), timeout=30).status_code == 403


def test_nothing_is_streamed_of_a_prediction_that_is_not_there(service: Service) -> None:
    for what in ("events", "ws"):
        answer = requests.get(f"{service.url}/v1/predictions/01m0000000000000000000000/{what}", timeout=30)
        assert answer.status_code == 404


def websocket_url(service: Service, prediction: dict[str, Any]) -> str:
    return events_url(service, prediction).replace("http://", "ws://").replace("/events", "/ws")


def test_a_websocket_tells_the_same(service: Service) -> None:
    prediction = post(service, SLOW)
    with connect_websocket(websocket_url(service, prediction)) as websocket:
        messages = [json.loads(message) for message in websocket]  # until the server closes it
    assert [message["event"] for message in messages][-2:] == ["output", "done"]
    assert messages[-1]["data"]["status"] == "succeeded"


def test_a_websocket_by_its_signed_url_answers_pings_and_lets_go(service: Service) -> None:
    prediction = post(service, NOBODYS)
    url = prediction["urls"]["events"].replace("http://", "ws://").replace("/events?", "/ws?")
    with connect_websocket(url) as websocket:
        assert json.loads(websocket.recv(timeout=30))["event"] == "queued"
        websocket.send("a listener may say what it likes")
        assert websocket.ping().wait(30)
    cancel(service, prediction)
    with pytest.raises(InvalidStatus) as refused, connect_websocket(url.replace("expires=", "expires=1")):
        pass
    assert refused.value.response.status_code == 403


def test_a_websocket_route_without_an_upgrade_says_what_it_is(service: Service) -> None:
    prediction = post(service, NOBODYS)
    answer = requests.get(f"{service.url}/v1/predictions/{prediction['id']}/ws", timeout=30)
    assert answer.status_code == 426
    cancel(service, prediction)


def test_rubbish_on_a_websocket_ends_only_that_one(service: Service) -> None:
    prediction = post(service, NOBODYS)
    address = urlsplit(service.url)
    with closing(socket.create_connection((address.hostname, address.port), timeout=30)) as raw:
        lines = [
            f"GET /v1/predictions/{prediction['id']}/ws HTTP/1.1",
            f"Host: {address.netloc}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ]
        raw.sendall("\r\n".join([*lines, "", ""]).encode())
        assert raw.recv(4096).startswith(b"HTTP/1.1 101")
        raw.sendall(b"\xff" * 100)
        while raw.recv(4096):
            pass
    cancel(service, prediction)
    assert requests.get(f"{service.url}/healthz", timeout=30).status_code == 200


@pytest.fixture
def many(service: Service) -> Iterator[list[socket.socket]]:
    opened: list[socket.socket] = []
    yield opened
    for connection in opened:
        connection.close()


def test_streams_are_capped_and_clients_that_left_make_room(service: Service, many: list[socket.socket]) -> None:
    """The service of these tests streams to API_MAX_STREAMS clients."""
    prediction = post(service, NOBODYS)
    address = urlsplit(events_url(service, prediction))
    request = f"GET {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode()

    def open_one() -> bytes:
        connection = socket.create_connection((address.hostname, address.port), timeout=60)
        many.append(connection)
        connection.sendall(request)
        return connection.recv(4096)

    answers = []
    for _ in range(service.settings.api_max_streams + 20):
        answers.append(open_one())
        if b" 503 " in answers[-1].split(b"\r\n")[0]:
            break
    assert b"Retry-After: 5" in answers[-1]
    assert requests.get(f"{service.url}/healthz", timeout=30).status_code == 200
    for connection in many:
        connection.close()
    give_up_at = time.monotonic() + 90
    while b" 200 " not in open_one().split(b"\r\n")[0]:  # each is noticed at its next ping
        assert time.monotonic() < give_up_at
        time.sleep(0.5)
    cancel(service, prediction)


def test_a_websocket_ends_when_its_prediction_does(service: Service) -> None:
    prediction = post(service, NOBODYS)
    with connect_websocket(websocket_url(service, prediction)) as websocket:
        websocket.recv(timeout=30)
        cancel(service, prediction)
        told = [json.loads(message)["event"] for message in websocket]
        with pytest.raises(ConnectionClosed) as closed:
            websocket.recv(timeout=30)
    assert told[-1] == "done"
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1000
