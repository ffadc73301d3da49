"""npm's `replicate`, as it is installed from the registry, against the running service."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.scripts import said_by
from tests.pictures import file_of, picture
from tests.support.receivers import Receiver
from tests.support.serving import Service

RED = file_of(picture())
PICTURE = base64.b64encode(RED).decode()
SCRIPT = Path(__file__).parent / "replicate_npm.mjs"


@pytest.fixture(scope="session")
def said(npm_folder: Path, service: Service) -> Iterator[dict[str, Any]]:
    """What the client got, by test: all in one Node process."""
    shutil.copy(SCRIPT, npm_folder)
    with Receiver().serving() as receiver:
        environment = os.environ | {"BASE_URL": f"{service.url}/v1", "RECEIVER": receiver.url, "PICTURE": PICTURE}
        results = said_by(["node", SCRIPT.name], cwd=npm_folder, env=environment, timeout_s=150)
        came = receiver.wait_for(1)[0]
        check = subprocess.run(
            ["node", SCRIPT.name, "validate", came.body.decode(), json.dumps(came.headers)],
            cwd=npm_folder,
            env=os.environ | {"BASE_URL": f"{service.url}/v1"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert check.returncode == 0, check.stderr
        yield results | {"webhook": json.loads(check.stdout)}


def test_run_blocks_until_the_picture_is_there(said: dict[str, Any]) -> None:
    assert len(said["run"]) == 1
    assert said["run_by_version"] == 1


def test_run_polls_and_tells_the_progress(said: dict[str, Any]) -> None:
    assert said["polled"]["statuses"][0] == "starting"
    assert said["polled"]["statuses"][-1] == "succeeded"
    assert any(0 < share < 1 for share in said["polled"]["progress"])


def test_stream_sends_no_token_and_gives_files(said: dict[str, Any]) -> None:
    assert set(said["stream"]["events"]) == {"logs", "output", "done"}
    assert said["stream"]["events"][-1] == "done"
    assert said["stream"]["bytes"] > 50
    assert said["stream"]["type"] == "image/png"


def test_create_and_wait(said: dict[str, Any]) -> None:
    assert said["preferred"] == "succeeded"
    assert said["waited"] == ["starting", "succeeded"]


def test_create_get_cancel(said: dict[str, Any]) -> None:
    assert said["created"] == "starting"
    assert said["canceled"] == "canceled"
    assert said["read"] == "canceled"


def test_pages_of_the_list_hold_everything_once(said: dict[str, Any]) -> None:
    assert said["pages"] >= 2
    assert said["listed"] == said["distinct"] > 100


def test_models_and_account(said: dict[str, Any]) -> None:
    assert said["models"] == 3
    assert said["model"] == "darkroom/blank"
    assert said["versions"] == 1
    assert said["account"] == "darkroom"


def test_errors_carry_their_status(said: dict[str, Any]) -> None:
    assert said["errors"] == {"missing": 404, "invalid": 422}


def test_the_webhook_validates_and_a_changed_one_does_not(said: dict[str, Any]) -> None:
    assert said["webhook"] == {"genuine": True, "tampered": False}


def test_a_blob_is_uploaded_and_named_by_its_url(said: dict[str, Any], service: Service) -> None:
    assert said["picture_run"] == 1
    assert said["pictures_run"] == 1
    assert said["picture_uploaded"].startswith(f"{service.url}/v1/files/")


def test_files_are_made_listed_read_and_deleted(said: dict[str, Any]) -> None:
    assert said["file"] == {
        "size": len(RED),
        "metadata": {"project": "x"},
        "listed": True,
        "read": True,
        "deleted": True,
    }
