"""`darkroom mcp` with the official client of the Model Context Protocol."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import httpx2
from mcp import ClientSession, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from PIL import Image

from cli.embedded.ports import free_ports
from storage.postgres.database import Connection
from tests.clients.guarding import token
from tests.support.eventually import eventually
from tests.support.serving import Service

DARKROOM = str(Path(sys.executable).parent / "darkroom")
Steps = list[tuple[float, float | None, str | None]]


def over_stdio(service: Service, use: Callable[[ClientSession], Awaitable[None]], *, given: str = "") -> None:
    """Start `darkroom mcp` as a client does, and use it."""
    own = {"DARKROOM_URL": service.url, "DARKROOM_TOKEN": given}

    async def run() -> None:
        parameters = StdioServerParameters(command=DARKROOM, args=["mcp"], env=os.environ | own)
        async with stdio_client(parameters) as (read, write), ClientSession(read, write) as session:
            await session.initialize()
            await use(session)

    anyio.run(run)


async def called(session: ClientSession, name: str, heard: Steps | None = None, **given: Any) -> Any:
    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        if heard is not None:
            heard.append((progress, total, message))

    return await session.call_tool(name, given, progress_callback=on_progress)


def test_a_client_draws_lists_and_reads(service: Service) -> None:
    heard: Steps = []

    async def use(session: ClientSession) -> None:
        tools = {tool.name for tool in (await session.list_tools()).tools}
        assert tools == {"generate_image", "edit_image", "list_images", "get_image", "cancel"}
        drawn = await called(session, "generate_image", heard, prompt="an armadillo", number=2, size="128x64")
        text, *pictures = drawn.content
        assert not drawn.is_error
        assert len(pictures) == 2
        for picture in pictures:
            with Image.open(io.BytesIO(base64.b64decode(picture.data))) as opened:
                assert (picture.mime_type, opened.size) == ("image/png", (128, 64))
        prediction_id = text.text.split()[0]
        listed = json.loads((await called(session, "list_images", search="armadillo")).content[0].text)
        assert [each["id"] for each in listed] == [prediction_id]
        again = await called(session, "get_image", prediction_id=prediction_id)
        assert again.content == drawn.content
        url = f"data:image/png;base64,{pictures[0].data}"
        edited = await called(session, "edit_image", prompt="a red armadillo", image=url, strength=0.5)
        assert (edited.is_error, edited.content[1].type) == (False, "image")
        both = await called(session, "edit_image", prompt="two armadillos", image=[url, url], model="darkroom/slow")
        assert (both.is_error, both.content[1].type) == (False, "image")
        canceled = await called(session, "cancel", prediction_id=prediction_id)
        assert canceled.content[0].text == f"{prediction_id} is succeeded"

    over_stdio(service, use)
    assert re.fullmatch("step [1-4] of 4", str(heard[-1][2]))  # the last step may be told by the result itself


def test_what_the_server_refuses_is_the_tools_error(service: Service, guarded: Service) -> None:
    async def use(session: ClientSession) -> None:
        refused = await called(session, "generate_image", prompt="x", number=99)
        assert (refused.is_error, "num_outputs" in refused.content[0].text) == (True, True)
        missing = await called(session, "get_image", prediction_id="nobody")
        assert (missing.is_error, "404" in missing.content[0].text) == (True, True)

    async def without_token(session: ClientSession) -> None:
        refused = await called(session, "list_images")
        assert (refused.is_error, "DARKROOM_TOKEN" in refused.content[0].text) == (True, True)

    over_stdio(service, use)
    over_stdio(guarded, without_token)


def test_over_http_each_caller_draws_with_its_own_token(guarded: Service, database: Connection, tmp_path: Path) -> None:
    [port] = free_ports(1)
    mine = token(database)
    with (tmp_path / "log").open("w") as log:
        running = subprocess.Popen(
            [DARKROOM, "mcp", "--http", "--port", str(port)],
            # A token of its own would be used for everybody: it has to be left alone.
            env=os.environ | {"DARKROOM_URL": guarded.url, "DARKROOM_TOKEN": token(database)},
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}/mcp"
    try:
        eventually(lambda: _answers(url))

        async def call(headers: dict[str, str], name: str, **given: Any) -> Any:
            async with (
                httpx2.AsyncClient(headers=headers, timeout=60) as http,
                streamable_http_client(url, http_client=http) as (read, write),
                ClientSession(read, write) as session,
            ):
                await session.initialize()
                return await called(session, name, **given)

        authorized = {"Authorization": f"Bearer {mine}"}
        drawn = anyio.run(lambda: call(authorized, "generate_image", prompt="a newt"))
        assert (drawn.is_error, drawn.content[1].type) == (False, "image")
        assert len(json.loads(anyio.run(lambda: call(authorized, "list_images")).content[0].text)) == 1
        refused = anyio.run(lambda: call({}, "list_images"))
        assert (refused.is_error, "401" in refused.content[0].text) == (True, True)
        # A web page whose name resolves to this machine (DNS rebinding).
        assert httpx2.post(url, json={}, headers={"Host": "evil.example"}).status_code in (403, 421)
    finally:
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) is not None


def _answers(url: str) -> bool:
    try:
        return httpx2.get(url).status_code < 500
    except httpx2.TransportError:
        return False


def test_a_call_that_the_client_gives_up_cancels_the_prediction(service: Service) -> None:
    async def use(session: ClientSession) -> None:
        with anyio.move_on_after(3):
            await called(session, "generate_image", prompt="an ibex", model="darkroom/nobody")
        with anyio.fail_after(60):
            while True:
                [found] = json.loads((await called(session, "list_images", search="ibex")).content[0].text)
                if found["status"] == "canceled":
                    return
                await anyio.sleep(0.1)

    over_stdio(service, use)
