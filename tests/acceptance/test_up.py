"""`darkroom up` as a user meets it: the real command, driven by signals and over HTTP."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from cli.supervision.data_folder import DataFolder
from cli.supervision.stale_processes import ProcessRecord
from tests.acceptance.running_up import NOT_OURS, REPOSITORY, RunningUp, darkroom, processes_of, up
from tests.support.eventually import eventually


def test_it_says_that_it_is_ready_on_a_line_of_its_own_and_accepts_a_post(folder: Path) -> None:
    with up(folder) as running:
        prediction_id = running.submit()
        assert running.wait_for_status(prediction_id, "succeeded") == "succeeded"
        for role in ("api", "courier", "postgres", "weed"):
            assert running.role(role) is not None, role
        assert DataFolder(running.data).catalog_in_use() == folder / "models.toml"
        assert running.interrupt() == 0
        assert DataFolder(running.data).catalog_in_use() is None
        assert processes_of(folder) == []
        assert "Traceback" not in running.output


def test_a_second_start_finds_the_data_of_the_first(folder: Path) -> None:
    with up(folder) as first:
        prediction_id = first.submit()
        first.wait_for_status(prediction_id, "succeeded")
        assert first.interrupt() == 0
    with up(folder) as second:
        status, prediction = second.request("GET", f"/v1/predictions/{prediction_id}")
        assert status == 200
        (image_url,) = prediction["output"]
        path = urlsplit(image_url)._replace(scheme="", netloc="").geturl()
        assert _fetch(second, path).startswith(b"\x89PNG")


def test_after_a_sigkill_the_next_start_ends_what_is_left_and_starts(folder: Path) -> None:
    with up(folder) as first:
        first.submit("test/slow")
        eventually(lambda: bool(first.workers()))
        first.kill()
        with up(folder) as second:
            second.submit()
            left = {process.pid for process in processes_of(folder)}
            ours = {process.pid for process in psutil.Process(second.process.pid).children(recursive=True)}
            assert left - ours - {second.process.pid} == set()


def test_leftover_processes_are_ended_by_their_record_even_if_nothing_told_them(folder: Path) -> None:
    """As on macOS, where a child doesn't hear of its parent's death: a stopped process can't hear either."""
    with up(folder) as first:
        courier = first.role("courier")
        assert courier is not None
        courier.suspend()
        first.kill()
        with up(folder) as second:
            assert not courier.is_running()
            said = "ended the courier process that an earlier run left behind"
            assert said in second.output, f"{first.output}\n---\n{second.output}"


def test_a_recorded_pid_that_was_given_to_another_program_is_left_alone(folder: Path) -> None:
    run = folder / "data" / "run"
    run.mkdir(parents=True)
    ProcessRecord(run).add("api", os.getpid())
    [recorded] = json.loads((run / "processes.json").read_text())
    recorded["started"] -= 1000
    (run / "processes.json").write_text(json.dumps([recorded]))
    with RunningUp(folder) as running:
        running.wait_until_ready()  # and we live


def test_a_taken_port_is_one_clear_line(folder: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with RunningUp(folder, port=port) as running:
            assert running.wait_for_exit() == 2
            assert running.lines == [
                f"darkroom: Port {port} of 127.0.0.1 is taken by another program:"
                " stop that one, or choose another with --port."
            ]
            assert not running.data.exists()


EVERYWHERE = "0.0.0.0"  # noqa: S104 (refused, or asking for a token)


@pytest.mark.parametrize("host", [EVERYWHERE, "192.0.2.1", "::", "example.com"])
def test_a_host_that_others_can_reach_needs_to_know_its_public_url(folder: Path, host: str) -> None:
    with RunningUp(folder, "--host", host) as running:
        assert running.wait_for_exit() == 2
        assert len(running.lines) == 1
        assert "PUBLIC_URL" in running.lines[0]


def test_a_host_that_others_can_reach_is_refused_until_there_is_a_token(folder: Path) -> None:
    public = {"PUBLIC_URL": "http://192.0.2.1:8000"}
    with RunningUp(folder, "--host", EVERYWHERE, env=public) as refused:
        assert refused.wait_for_exit() == 2
        assert "darkroom tokens create NAME" in refused.lines[-1]
        assert processes_of(folder) == []
    with up(folder) as open_:
        assert "everybody on this machine, without a token" in open_.output
        token = darkroom("tokens", "create", "n8n", "--data", str(open_.data))
        listed = darkroom("tokens", "list", "--data", str(open_.data))
        assert "n8n" in listed
        assert token not in listed
    with up(folder, "--host", EVERYWHERE, env=public) as running:
        assert running.request("GET", "/v1/predictions")[0] == 401
        status, page = running.request("GET", "/v1/predictions", Authorization=f"Bearer {token}")
        assert (status, page["results"]) == (200, [])
        assert token not in running.output


def test_tokens_without_a_database_are_one_clear_line(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "tokens", "list", "--data", str(folder)],
        cwd=REPOSITORY,
        env={name: value for name, value in os.environ.items() if not name.startswith(NOT_OURS)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "DATABASE_URL" in done.stderr


def test_a_data_folder_that_cannot_be_written_is_one_clear_line(folder: Path) -> None:
    (folder / "data").write_text("a file stands where the folder should be")
    with RunningUp(folder) as running:
        assert running.wait_for_exit() == 2
        (line,) = running.lines
        assert "can't be used" in line
        assert "--data" in line


def test_a_data_folder_with_a_comma_is_one_clear_line_and_leaves_nothing(folder: Path) -> None:
    (folder / "a, b").mkdir()
    (folder / "data").symlink_to(folder / "a, b")
    with RunningUp(folder) as running:
        assert running.wait_for_exit() == 2
        assert "has a comma in it: give --data another folder" in running.lines[-1]
        assert list((folder / "a, b").iterdir()) == []


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}, ("Postgres can't be reached", "DATABASE_URL")),
        ({"LOG_LEVEL": "loud"}, ("LOG_LEVEL", "loud")),
        ({"MODELS": "unused", "PUBLIC_URL": "example.com"}, ("PUBLIC_URL", "http://")),
    ],
    ids=["database unreachable", "wrong setting", "wrong public url"],
)
def test_a_wrong_setting_is_one_clear_line(folder: Path, env: dict[str, str], words: tuple[str, ...]) -> None:
    with RunningUp(folder, env=env) as running:
        assert running.wait_for_exit() == 2
        complaints = [line for line in running.lines if line.startswith("darkroom: ")]
        assert len(complaints) == 1, running.output
        assert all(word in complaints[0] for word in words), complaints
        assert "Traceback" not in running.output
        assert processes_of(folder) == []


@pytest.mark.parametrize(
    "env",
    [
        {"WEBHOOK_ALLOW": "10.0.0.0/99"},
        {"WEBHOOK_DENY": "a name with spaces"},
        {"SECRET_KEY": "short"},
        {"CORS_ORIGINS": "https://*.example.com"},
        {"WEBHOOK_RETRY_SCHEDULE": "soon"},
        {"STALL_SECONDS": "-1"},
        {"ALLOWED_HOSTS": "not/a/host"},
        {"S3_ACCESS_KEY_ID": "half a key", "S3_ENDPOINT_URL": "http://127.0.0.1:1"},
    ],
    ids=lambda env: next(iter(env)),
)
def test_every_setting_is_checked_before_anything_starts(folder: Path, env: dict[str, str]) -> None:
    with RunningUp(folder, env=env) as running:
        assert running.wait_for_exit() == 2
        (line,) = running.lines
        assert line.startswith("darkroom: ")
        assert next(iter(env)).removesuffix("_ACCESS_KEY_ID") in line
        assert not running.data.exists()


def test_what_the_embedded_s3_server_replaces_is_not_checked(folder: Path) -> None:
    """Half of a key pair for another bucket is common in an environment."""
    (folder / "models.toml").write_text("")
    with RunningUp(folder, env={"S3_ACCESS_KEY_ID": "half a key"}) as running:
        assert running.wait_for_exit() == 2
        assert "has no models" in running.output
        assert "S3" not in running.output


def test_a_catalog_without_models_is_one_clear_line(folder: Path) -> None:
    (folder / "models.toml").write_text("")
    with RunningUp(folder) as running:
        assert running.wait_for_exit() == 2
        (line,) = running.lines
        assert "has no models" in line
        assert not running.data.exists()


# Moments of the start, in their order, as seen from outside. Each stays true, so that a slow machine misses none.
MOMENTS: dict[str, Callable[[RunningUp], bool]] = {
    "python is loading": lambda running: True,
    "the database's files are made": lambda running: bool(
        list(running.data.glob("postgres/initdb-*")) or list(running.data.glob("postgres/data"))
    ),
    "the servers come up": lambda running: (running.data / "postgres/data/postmaster.pid").exists(),
    "the schema is made": lambda running: " s  Postgres" in running.output,
    "the roles start": lambda running: running.role("courier") is not None or " s  API" in running.output,
    "the bucket is made": lambda running: " s  S3" in running.output,
    "it is ready": lambda running: "Darkroom is ready" in running.output,
}


def test_ctrl_c_at_any_moment_of_the_start_leaves_nothing_and_stands_in_no_ones_way(folder: Path) -> None:
    for moment, has_come in MOMENTS.items():
        with RunningUp(folder) as running:
            eventually(partial(has_come, running))
            code = running.interrupt()
            # Not ready yet, ready. Before `main` runs, Python gives the answer: killed, or 1 where it imports `site`.
            in_python_itself = moment == "python is loading" and "KeyboardInterrupt" in running.output
            expected = {-signal.SIGINT, 128 + signal.SIGINT, 1 if in_python_itself else 0}
            assert code in expected, (moment, running.output)
            assert processes_of(folder) == [], moment
        if moment != "python is loading":
            assert "Traceback" not in running.output, moment
    with up(folder) as running:
        running.submit()


def test_a_second_ctrl_c_hurries(folder: Path) -> None:
    with up(folder) as running:
        running.wait_for_status(running.submit("test/slow"), "processing")
        running.process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        pressed_at = time.monotonic()
        assert running.interrupt() == 0
        assert time.monotonic() - pressed_at < 5
        assert processes_of(folder) == []


def test_no_worker_is_left_after_the_idle_time_and_the_next_submit_is_drawn(folder: Path) -> None:
    with up(folder, "--idle-exit", "0.5") as running:
        for _ in range(2):
            running.wait_for_status(running.submit(), "succeeded")
            eventually(lambda: not running.workers())


def test_models_take_turns_where_there_is_one_worker(folder: Path) -> None:
    with up(folder, "--idle-exit", "60") as running:
        running.wait_for_status(running.submit("test/blank"), "succeeded")
        assert running.wait_for_status(running.submit("test/slow"), "succeeded") == "succeeded"
        assert len(running.workers()) == 1


def test_a_model_with_one_prediction_is_not_kept_waiting_by_the_backlog_of_another(folder: Path) -> None:
    with up(folder, "--switch-after", "1") as running:
        slow = [running.submit("test/slow") for _ in range(3)]
        running.wait_for_status(slow[0], "processing")
        one = running.submit("test/blank")
        slow += [running.submit("test/slow") for _ in range(60)]  # 4 s each
        assert running.wait_for_status(one, "succeeded") == "succeeded"
        assert [running.status_of(each) for each in slow[-40:]] == ["starting"] * 40, "it was drawn before them"
        assert running.output.count("makes place for test/blank") == 1, "it was given a place once, and it kept it"
        eventually(lambda: "makes place for test/slow" in running.output)


def test_there_are_never_more_workers_than_asked_for(folder: Path) -> None:
    with up(folder, "--workers", "2") as running:
        ids = [running.submit("test/blank") for _ in range(12)]
        most = 0
        while any(running.status_of(each) != "succeeded" for each in ids):
            most = max(most, len(running.workers()))
        assert most == 2


def _fetch(running: RunningUp, path: str) -> bytes:
    import http.client

    connection = http.client.HTTPConnection(urlsplit(running.url).netloc, timeout=30)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()
