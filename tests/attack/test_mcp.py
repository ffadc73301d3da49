"""Ids that lead elsewhere, given to `darkroom mcp --http`: it has no rights of its own, but a place in our network."""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

from cli.embedded.ports import free_ports
from tests.attack.target import Client, Target
from tests.support.eventually import eventually

DARKROOM = str(Path(sys.executable).parent / "darkroom")


@pytest.fixture
def inner() -> Iterator[tuple[str, list[str]]]:
    """A server of the network that the MCP server stands in, and what it was asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"inner secret")

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


@pytest.fixture
def mcp_url(target: Target, tmp_path: Path) -> Iterator[str]:
    [port] = free_ports(1)
    env = {name: value for name, value in os.environ.items() if name != "DARKROOM_TOKEN"}
    with (tmp_path / "log").open("w") as log:
        running = subprocess.Popen(
            [DARKROOM, "mcp", "--http", "--port", str(port)],
            env=env | {"DARKROOM_URL": target.service.url},
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}/mcp"
    try:
        eventually(lambda: _answers(url))
        yield url
    finally:
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) is not None


def test_an_id_that_is_a_path_leads_to_no_other_route_and_fetches_nothing(
    target: Target, mcp_url: str, inner: tuple[str, list[str]]
) -> None:
    inner_url, asked = inner
    # A file of the attacker that looks like a prediction: its `output` would be fetched and returned.
    fake = {"id": "x", "status": "succeeded", "output": [f"{inner_url}/meta-data/key.png"]}
    content = {"content": ("fake.json", json.dumps(fake), "application/json")}
    uploaded = target.attacker.send("POST", "/v1/files", files=content)
    assert uploaded.status_code == 201
    download = uploaded.json()["urls"]["download"].partition("/v1/files/")[2]
    own = target.attacker.predict(model="darkroom/nobody").json()["id"]
    ids = [
        f"../files/{download}",
        f"x/../../files/{download}",
        f"..%2Ffiles%2F{download}",
        f"{own}/cancel?",
        f"{own}/cancel#",
        f"../predictions/{own}",
        "..",
        ".",
        "",
        "../webhooks/default/secret?",
        f"{own}\r\nX-Evil: 1",
        "\u2025/models",
    ]

    async def call_all(session: ClientSession) -> None:
        for each in ids:
            for tool in ("get_image", "cancel"):
                answer: Any = await session.call_tool(tool, {"prediction_id": each})
                assert answer.is_error, (tool, each, answer)
                assert "is not the id of a prediction" in answer.content[0].text, (tool, each, answer)

    anyio.run(_use, mcp_url, target.attacker, call_all)
    assert asked == []
    assert target.attacker.send("GET", f"/v1/predictions/{own}").json()["status"] == "starting"
    target.attacker.send("POST", f"/v1/predictions/{own}/cancel")


def test_a_caller_reaches_only_what_is_its_own(target: Target, mcp_url: str) -> None:
    async def call_all(session: ClientSession) -> None:
        for tool in ("get_image", "cancel"):
            answer: Any = await session.call_tool(tool, {"prediction_id": target.picture["id"]})
            assert (answer.is_error, "answered 40" in answer.content[0].text) == (True, True), answer
        for name in ("/etc/passwd", "file:///etc/passwd", "http://127.0.0.1:1/x.png", "https://127.0.0.1/x.png"):
            answer = await session.call_tool("edit_image", {"prompt": "x", "image": name})
            assert (answer.is_error, "root:" in answer.content[0].text) == (True, False), answer

    for caller in (target.attacker, Client(target.service.url, None), Client(target.service.url, "dr_wrong")):
        anyio.run(_use, mcp_url, caller, call_all)


async def _use(url: str, caller: Client, use: Any) -> None:
    headers = {"Authorization": f"Bearer {caller.token}"} if caller.token else {}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60) as http_client,
        streamable_http_client(url, http_client=http_client) as (read, write),
        ClientSession(read, write) as session,
    ):
        await session.initialize()
        await use(session)


def _answers(url: str) -> bool:
    try:
        return httpx2.get(url).status_code < 500
    except httpx2.TransportError:
        return False
