"""Clients that hang up before their answer: whose prediction goes on, and whose is canceled."""

from __future__ import annotations

import json
import re
import secrets
import socket
from typing import Any
from urllib.parse import urlsplit

import requests

from tests.support.eventually import eventually
from tests.support.serving import Service

MODEL = "darkroom/nobody"  # no worker serves it: it waits until somebody ends it


def send(service: Service, path: str, body: dict[str, Any], **headers: str) -> socket.socket:
    """A request whose answer nobody has read yet."""
    address = urlsplit(service.url)
    payload = json.dumps(body)
    lines = [f"POST {path} HTTP/1.1", f"Host: {address.netloc}", "Content-Type: application/json"]
    lines += [f"Content-Length: {len(payload)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    connection = socket.create_connection((address.hostname, address.port), timeout=60)
    connection.sendall("\r\n".join([*lines, "", payload]).encode())
    return connection


def status_of(service: Service, prompt: str) -> str | None:
    listed = requests.get(f"{service.url}/v1/predictions", timeout=30).json()["results"]
    return next((row["status"] for row in listed if row["input"].get("prompt") == prompt), None)


def threads_held(service: Service) -> int:
    page = requests.get(f"{service.url}/metrics", timeout=30).text
    return sum(int(float(n)) for n in re.findall(r"^darkroom_api_(?:streams|waits)_open (\S+)$", page, re.MULTILINE))


def leave(service: Service, path: str, prompt: str, body: dict[str, Any], **headers: str) -> None:
    """Send a request, hang up when its prediction is there, and return when its thread is free."""
    held = threads_held(service)
    connection = send(service, path, body, **headers)
    eventually(lambda: status_of(service, prompt) == "starting" and threads_held(service) == held + 1)
    connection.close()
    eventually(lambda: threads_held(service) == held)


def test_an_images_request_whose_client_leaves_is_canceled(service: Service) -> None:
    prompt = secrets.token_hex(8)
    leave(service, "/v1/images/generations", prompt, {"model": MODEL, "prompt": prompt})
    assert status_of(service, prompt) == "canceled"


def test_so_is_one_that_streams(service: Service) -> None:
    prompt = secrets.token_hex(8)
    leave(service, "/v1/images/generations", prompt, {"model": MODEL, "prompt": prompt, "stream": True})
    eventually(lambda: status_of(service, prompt) == "canceled")


def test_one_with_an_idempotency_key_goes_on_since_the_same_request_leads_to_it_again(service: Service) -> None:
    prompt = secrets.token_hex(8)
    leave(service, "/v1/images/generations", prompt, {"model": MODEL, "prompt": prompt}, Idempotency_Key=prompt)
    assert status_of(service, prompt) == "starting"


def test_a_replicate_prediction_goes_on_without_the_client_that_waited(service: Service) -> None:
    prompt = secrets.token_hex(8)
    body = {"model": MODEL, "input": {"prompt": prompt}}
    leave(service, "/v1/predictions", prompt, body, Prefer="wait=60")
    assert status_of(service, prompt) == "starting"


def test_who_hangs_up_a_listener_frees_its_thread_and_the_prediction_goes_on(service: Service) -> None:
    made = requests.post(
        f"{service.url}/v1/predictions",
        json={"model": MODEL, "input": {"prompt": (prompt := secrets.token_hex(8))}},
        timeout=30,
    ).json()
    held = threads_held(service)
    with requests.get(made["urls"]["events"], stream=True, timeout=30) as listener:
        next(listener.iter_lines())
        eventually(lambda: threads_held(service) == held + 1)
    eventually(lambda: threads_held(service) == held)
    assert status_of(service, prompt) == "starting"
