"""Streams while an API process stops, and after it: they end at once, and go on at another process."""

from __future__ import annotations

import time

import requests

from tests.clients.listening import Listener
from tests.serving import Service, free_port, run, stop, wait_until_ready


def test_a_stopping_api_ends_its_streams_and_another_goes_on_with_them(service: Service) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    second = run("api", service.environment, "--port", str(port))
    try:
        wait_until_ready(url, second)
        body = {"model": "darkroom/nobody", "input": {"prompt": "a red circle"}}
        prediction = requests.post(f"{url}/v1/predictions", json=body, timeout=30).json()
        path = f"/v1/predictions/{prediction['id']}/events"
        with Listener(url + path) as listener:
            name, event_id, _ = listener.next()
            assert name == "queued"
            second.terminate()
            asked_at = time.monotonic()
            assert list(listener.rest()) == []  # not cut off by a dying process: it ended
            ended_s = time.monotonic() - asked_at
        assert second.wait(60) == 0
        assert ended_s < 15  # a ping would have come at 15 s
        with Listener(service.url + path, last_event_id=event_id) as again:
            assert again.next()[0] == "queued"
            requests.post(f"{service.url}/v1/predictions/{prediction['id']}/cancel", timeout=30).raise_for_status()
            assert again.until("done")[-1][2]["status"] == "canceled"
    finally:
        stop([second])
