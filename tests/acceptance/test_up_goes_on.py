"""One `darkroom up` whose processes are killed in turn, and beside which another is started: it goes on."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator

import pytest

from tests.acceptance.running_up import RunningUp, own_folder, processes_of, up
from tests.support.eventually import eventually


@pytest.fixture(scope="module")
def running() -> Iterator[RunningUp]:
    """For all of these tests: each waits until the service is whole again."""
    with own_folder() as folder, up(folder) as started:
        yield started
        assert started.interrupt() == 0


def test_two_on_one_folder_are_refused_and_the_first_goes_on(running: RunningUp) -> None:
    second = RunningUp(running.folder)
    try:
        assert second.wait_for_exit() == 2
    finally:
        second.close()
    assert f"Another darkroom up (process {running.process.pid}) uses {running.data}" in second.lines[-1]
    assert running.request("GET", "/readyz")[0] == 200


def test_secrets_are_ours_alone_and_never_shown(running: RunningUp) -> None:
    keys = running.data / "s3-keys.json"
    assert stat.S_IMODE(keys.stat().st_mode) == 0o600
    secret = json.loads(keys.read_text())["secret_access_key"]
    assert secret not in running.output
    assert not any(secret in " ".join(each.cmdline()) for each in processes_of(running.folder))


def test_postgres_killed_in_a_drawing_comes_back_and_the_prediction_succeeds(running: RunningUp) -> None:
    prediction_id = submit_patiently(running, "test/slow")
    running.wait_for_status(prediction_id, "processing")
    postgres = running.role("postgres")
    assert postgres is not None
    postgres.kill()
    assert running.wait_for_status(prediction_id, "succeeded", "failed") == "succeeded"
    assert "postgres was killed by SIGKILL; starting it again at once" in running.output


@pytest.mark.parametrize("role", ["weed", "api", "courier"])
def test_a_killed_role_comes_back(running: RunningUp, role: str) -> None:
    process = running.role(role)
    assert process is not None
    process.kill()
    eventually(lambda: (now := running.role(role)) is not None and now.pid != process.pid)
    assert running.wait_for_status(submit_patiently(running), "succeeded") == "succeeded"


def test_a_killed_worker_is_replaced_and_its_prediction_is_drawn(running: RunningUp) -> None:
    before = len(running.lines)
    prediction_id = submit_patiently(running, "test/slow")
    running.wait_for_status(prediction_id, "processing")
    (worker,) = running.workers("test/slow")
    worker.kill()
    assert running.wait_for_status(prediction_id, "succeeded") == "succeeded"
    assert "another is started at once if there is work" in "\n".join(running.lines[before:])


def submit_patiently(running: RunningUp, model: str = "test/blank") -> str:
    """Submit as a client does that tries again, while a role is being restarted."""
    ids: list[str] = []

    def accepted() -> bool:
        try:
            ids.append(running.submit(model))
        except (OSError, AssertionError):
            return False
        return True

    eventually(accepted)
    return ids[0]
