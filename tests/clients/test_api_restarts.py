"""Streams while an API process stops, and after it: they end at once, and go on at another process."""

from __future__ import annotations

import secrets
import time
from concurrent.futures import ThreadPoolExecutor

import requests

from tests.clients.listening import Listener
from tests.support.serving import Service, free_port, run, stop, wait_until_ready


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


def test_an_images_request_at_a_stopping_api_is_canceled_and_may_be_sent_again(service: Service) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    second = run("api", service.environment, "--port", str(port))
    prompt = secrets.token_hex(8)

    def mine() -> list[str]:
        listed = requests.get(f"{service.url}/v1/predictions", timeout=30).json()["results"]
        return [row["status"] for row in listed if row["input"].get("prompt") == prompt]

    try:
        wait_until_ready(url, second)
        with ThreadPoolExecutor(1) as pool:
            body = {"model": "darkroom/nobody", "prompt": prompt}
            waiting = pool.submit(requests.post, f"{url}/v1/images/generations", json=body, timeout=60)
            give_up_at = time.monotonic() + 60
            while mine() != ["starting"]:
                assert time.monotonic() < give_up_at
            second.terminate()
            answer = waiting.result()
        assert answer.status_code == 503
        assert "x-should-retry" not in answer.headers
        assert answer.headers["Retry-After"] == "2"
        assert mine() == ["canceled"]
    finally:
        stop([second])
