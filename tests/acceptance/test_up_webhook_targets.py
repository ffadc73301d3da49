"""Where webhooks of `darkroom up` go: this machine while it is open to this machine alone, never its own servers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from tests.acceptance.running_up import RunningUp, darkroom, up
from tests.support.eventually import eventually
from tests.support.receivers import Answer, Receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver().serving() as serving:
        yield serving


def submit(running: RunningUp, webhook: str, model: str = "test/blank", **headers: str) -> tuple[int, str]:
    """The status of a POST with that webhook, and its detail or the prediction's id."""
    body = {"model": model, "input": {"prompt": "x"}, "webhook": webhook, "webhook_events_filter": ["completed"]}
    status, answer = running.request("POST", "/v1/predictions", body, **headers)
    return status, str(answer.get("detail") or answer["id"])


def own_ports(running: RunningUp) -> set[int]:
    """Every TCP port on which a process of this run listens."""
    ports = set()
    for process in psutil.Process(running.process.pid).children(recursive=True):
        for each in process.net_connections("inet"):
            if each.status == psutil.CONN_LISTEN:
                ports.add(each.laddr.port)
    return ports


def test_this_machine_is_allowed_until_the_first_token_and_our_own_servers_never(
    folder: Path, receiver: Receiver
) -> None:
    with up(folder, env={"WEBHOOK_RETRY_SCHEDULE": ",".join(["0", *["1"] * 300])}) as running:
        assert submit(running, receiver.url)[0] == 201
        receiver.wait_for(1)
        ports = own_ports(running)
        assert len(ports) >= 9  # the API, and SeaweedFS's four servers with two ports each
        for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]"):
            for port in ports:
                status, detail = submit(running, f"http://{host}:{port}/col/delete?collection=darkroom")
                assert (status, "its own servers" in detail) == (422, True), (host, port, detail)

        receiver.answers(Answer(500))
        waiting = submit(running, receiver.url)[1]
        receiver.wait_for(2)
        token = darkroom("tokens", "create", "n8n", "--data", str(running.data))
        bearer = {"Authorization": f"Bearer {token}"}
        eventually(lambda: submit(running, receiver.url, **bearer)[0] == 422)
        assert "WEBHOOK_ALLOW=127.0.0.1" in submit(running, receiver.url, **bearer)[1]

        def attempts() -> int:
            """Of the one that waits; 0 until it is refused."""
            line = darkroom("webhooks", "list", "--prediction", waiting, "--data", str(running.data))
            found = re.search(r"(\d+) attempts .*not public", line)
            return int(found[1]) if found else 0

        eventually(lambda: attempts() > 0)
        came, before = len(receiver.requests), attempts()
        eventually(lambda: attempts() > before)
        assert len(receiver.requests) == came
        receiver.answers(Answer())
        assert running.interrupt() == 0

    named = str(urlsplit(receiver.url).hostname)
    with up(folder, env={"WEBHOOK_ALLOW": named}) as running:  # with tokens, it has to be named
        status, prediction_id = submit(running, receiver.url, **bearer)
        assert status == 201
        eventually(lambda: any(prediction_id.encode() in each.body for each in receiver.requests))
        path = f"/v1/webhook_deliveries?prediction_id={prediction_id}"

        def told() -> dict[str, object]:
            (delivery,) = running.request("GET", path, **bearer)[1]["results"]
            return dict(delivery)

        eventually(lambda: told()["status"] == "delivered")
        assert told()["last_status"] is None
        for port in own_ports(running):
            assert submit(running, f"http://{named}:{port}/", **bearer)[0] == 422


@pytest.mark.parametrize("access", ["none", "tokens"])
def test_where_others_may_send_requests_this_machine_has_to_be_named(
    folder: Path, receiver: Receiver, access: str
) -> None:
    """A proxy on this machine may let anybody in."""
    with up(folder, env={"AUTH": access}) as running:
        api = running.role("api")
        assert api is not None
        assert api.environ()["WEBHOOK_ALLOW_WHILE_OPEN"] == ""
        if access == "none":
            assert submit(running, receiver.url)[0] == 422
