"""The receivers of docs/receivers, run as a reader would run them, against the real courier code."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests
from standardwebhooks import Webhook

from courier.deliver import Deliverer
from courier.slots import Slots
from storage.access.sealing import IN_THE_CLEAR
from storage.access.signing_keys import active_webhook_secrets, ensure_keys, rotate_webhook_secret
from storage.postgres.clock import DatabaseClock
from storage.postgres.database import Connection, open_pool
from storage.settings import Settings
from storage.webhooks.history import replay
from tests.conftest import REPOSITORY
from tests.integration.deliveries_of import read, write
from tests.support.receivers import LOOPBACK_TARGETS

BODY = '{"id":"x","status":"succeeded","output":["http://127.0.0.1/0.png"],"prompt":"Käse & 猫"}'
EXAMPLES = {"receiver.py": sys.executable, "receiver.mjs": shutil.which("node")}


@contextmanager
def running(example: str, secret: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """The example's URL, and the file of its lines."""
    program = EXAMPLES[example]
    if program is None:
        pytest.skip("node is not installed: the JavaScript receiver can't be run")
    said = folder / "said.txt"
    env = os.environ | {"WEBHOOK_SECRET": secret, "PORT": "0", "DATABASE": str(folder / "handled")}
    with said.open("wb") as log:
        process = subprocess.Popen([program, REPOSITORY / "docs" / "receivers" / example], env=env, stdout=log)
        try:
            while not (found := re.search(r"listening on (\S+)", said.read_text())):
                assert process.poll() is None
            yield found[1], said
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_receiver_acts_once_on_what_arrives_twice_and_refuses_what_is_not_ours(
    example: str, settings: Settings, conn: Connection, tmp_path: Path
) -> None:
    ensure_keys(conn, IN_THE_CLEAR)
    old = active_webhook_secrets(conn, IN_THE_CLEAR)[0]
    rotate_webhook_secret(conn, IN_THE_CLEAR, overlap=timedelta(hours=1))  # both sign, it knows the old one
    with (
        running(example, old, tmp_path) as (url, said),
        open_pool(settings, application_name="test-courier") as pool,
    ):
        courier = Deliverer(
            pool=pool,
            clock=DatabaseClock(pool),
            sealer=IN_THE_CLEAR,
            targets=LOOPBACK_TARGETS,
            schedule_s=(0.0,),
            timeout_s=10,
            slots=Slots(4),
        )
        delivery_id = write(conn, url, body=BODY)
        courier.deliver_due()
        assert replay(conn, delivery_id) is not None
        courier.deliver_due()
        assert read(conn, delivery_id)["status"] == "delivered"
        now = datetime.now(UTC)
        for signed_at, secret in ((now, "whsec_" + "A" * 44), (now - timedelta(hours=1), old)):
            assert post(url, delivery_id, signed_at, Webhook(secret).sign(delivery_id, signed_at, BODY)) == 401
        assert post(url, delivery_id, now, "v1,!!! v1") == 401
        lines = said.read_text().splitlines()
    assert lines[1:] == [f"handled {delivery_id}", f"seen before {delivery_id}"]


def post(url: str, delivery_id: str, signed_at: datetime, signature: str) -> int:
    headers = {
        "webhook-id": delivery_id,
        "webhook-timestamp": str(int(signed_at.timestamp())),
        "webhook-signature": signature,
    }
    return requests.post(url, BODY.encode(), headers=headers, timeout=10).status_code
