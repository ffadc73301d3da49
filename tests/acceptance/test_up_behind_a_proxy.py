"""`darkroom up` on a machine whose environment names a proxy: its own servers are never asked through it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from tests.acceptance.running_up import get_bytes, up
from tests.support.eventually import eventually
from tests.support.proxies import proxy_settings
from tests.support.receivers import Receiver, raw_server


def test_a_picture_is_drawn_and_told_without_a_word_to_the_proxy(folder: Path) -> None:
    asked: list[bytes] = []
    with raw_server(lambda client, _: asked.append(client.recv(200))) as port:
        _draw_and_tell(folder, f"http://127.0.0.1:{port}")
    assert asked == []


def _draw_and_tell(folder: Path, proxy_url: str) -> None:
    with Receiver().serving() as receiver, up(folder, env=proxy_settings(proxy_url)) as running:
        body = {"model": "test/blank", "input": {"prompt": "a"}, "webhook": receiver.url}
        status, prediction = running.request("POST", "/v1/predictions", body)
        assert status == 201, prediction
        assert running.wait_for_status(prediction["id"], "succeeded") == "succeeded"
        _, prediction = running.request("GET", f"/v1/predictions/{prediction['id']}")
        image, content_type = get_bytes(prediction["output"][0])
        assert content_type == "image/png"
        assert image.startswith(b"\x89PNG")
        eventually(lambda: any(b'"succeeded"' in each.body for each in receiver.requests))
        assert f"Try: curl --noproxy {urlsplit(running.url).hostname} http" in running.output
        assert running.interrupt() == 0
