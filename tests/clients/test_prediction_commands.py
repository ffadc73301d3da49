"""`darkroom list`, `get`, … as people run them, and what they say where something can't be done."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from cli.client.events import parsed
from storage.postgres.database import Connection
from tests.clients.darkroom_command import DARKROOM, darkroom, environment_of, text_of
from tests.clients.guarding import token
from tests.conftest import REPOSITORY
from tests.support.serving import Service


def test_what_is_sent_can_be_listed_read_watched_kept_and_deleted(service: Service, tmp_path: Path) -> None:
    prediction_id = text_of(darkroom(service, tmp_path, "generate", "an aardvark", "--detach"))
    assert text_of(darkroom(service, tmp_path, "watch", prediction_id)).splitlines()[-1].startswith("succeeded: http")
    events = text_of(darkroom(service, tmp_path, "watch", prediction_id, "--json")).splitlines()
    assert json.loads(events[-1])["event"] == "done"
    listed = text_of(darkroom(service, tmp_path, "list", "--search", "aardvark", "--status", "succeeded"))
    assert listed.split("\t")[0::2] == [prediction_id, "succeeded", "an aardvark"]
    assert json.loads(text_of(darkroom(service, tmp_path, "list", "-n", "1", "--json")))[0]["id"] == prediction_id
    assert text_of(darkroom(service, tmp_path, "get", prediction_id, "-o", "a.png")) == "a.png"
    assert text_of(darkroom(service, tmp_path, "keep", prediction_id)).endswith("kept")
    assert not text_of(darkroom(service, tmp_path, "keep", "--not", prediction_id)).endswith("kept")
    assert text_of(darkroom(service, tmp_path, "cancel", prediction_id)) == f"{prediction_id}  succeeded"
    asked = darkroom(service, tmp_path, "delete", prediction_id)  # nobody answers the question
    assert asked.returncode == 1
    assert text_of(darkroom(service, tmp_path, "delete", "-y", prediction_id)) == f"deleted {prediction_id}"
    gone = darkroom(service, tmp_path, "get", prediction_id)
    assert (gone.returncode, b"404" in gone.stderr) == (2, True)


def test_lists_longer_than_a_page_are_read_on(service: Service, tmp_path: Path) -> None:
    known = len(json.loads(text_of(darkroom(service, tmp_path, "list", "-n", "1000", "--json"))))
    for _ in range(3):
        darkroom(service, tmp_path, "generate", "x", "--detach", "-m", "darkroom/nobody")
    found = json.loads(text_of(darkroom(service, tmp_path, "list", "-n", str(known + 2), "--json")))
    assert len({each["id"] for each in found}) == known + 2


def test_what_the_server_has_and_did(service: Service, tmp_path: Path) -> None:
    darkroom(service, tmp_path, "generate", "x", "-q")
    models = text_of(darkroom(service, tmp_path, "models")).splitlines()
    assert [line.split("\t")[0] for line in models] == ["darkroom/blank", "darkroom/slow", "darkroom/nobody"]
    [row] = json.loads(text_of(darkroom(service, tmp_path, "usage", "--by", "model", "--json")))["results"][:1]
    assert row["images"] >= 1
    status = darkroom(service, tmp_path, "status")
    assert status.returncode in (0, 1)  # others' tests leave predictions that nobody draws
    assert "darkroom/blank\t" in status.stdout.decode()
    assert text_of(darkroom(service, tmp_path, "--version")).startswith("darkroom, version ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("generate", "x", "-m", "no/model"), "there is no model 'no/model'"),
        (("generate", "x", "-n", "99"), "num_outputs"),
        (("generate", "x", "-o", "x.bmp"), "output_format"),
        (("generate", "x", "-i", "steps"), "is not NAME=VALUE"),
        (("generate", ""), "prompt"),
        (("list", "--status", "done"), "status"),
        (("watch", "nobody"), "404"),
        (("generate", "x", "-o", "no/such/folder/x.png"), "can't be written"),
    ],
)
def test_what_can_not_be_done_is_said_in_one_line(
    service: Service, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    done = darkroom(service, tmp_path, *words)
    assert done.returncode == 2
    assert said in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()


def test_a_server_that_wants_a_token_says_so_and_takes_one(
    guarded: Service, database: Connection, tmp_path: Path
) -> None:
    refused = darkroom(guarded, tmp_path, "generate", "x")
    assert (refused.returncode, b"DARKROOM_TOKEN" in refused.stderr) == (2, True)
    assert text_of(darkroom(guarded, tmp_path, "generate", "x", "-o", "x.png", token=token(database))) == "x.png"


def test_no_server_is_said_in_one_line(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")}
    for more, said in (
        ({}, "No `darkroom up` runs on .darkroom"),
        ({"DARKROOM_URL": "http://127.0.0.1:9"}, "http://127.0.0.1:9 can't be reached"),
        ({"DARKROOM_URL": "draw.example.com"}, "which is no URL"),
    ):
        done = subprocess.run(
            [DARKROOM, "list"], cwd=tmp_path, env=environment | more, capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1


def examples() -> list[str]:
    """The lines with a command for any server in docs/cli.md, without those that name another server."""
    page = (REPOSITORY / "docs" / "cli.md").read_text(encoding="utf-8")
    names = "generate|list|get|watch|cancel|keep|delete|models|usage|status"
    lines = re.findall(rf"^(?:\$ |  )(darkroom (?:{names}) .+)$", page, re.MULTILINE)
    return sorted({line for line in lines if "https://" not in line})


def test_the_examples_of_the_docs_work(service: Service, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "blue").save(tmp_path / "blue.png")
    drawn = text_of(darkroom(service, tmp_path, "generate", "a lighthouse", "--detach"))
    lines = examples()
    assert {line.split()[1] for line in lines} >= {"generate", "list", "get", "usage", "status"}
    environment = environment_of(service) | {"PATH": f"{Path(DARKROOM).parent}:{os.environ['PATH']}"}
    for line in lines:
        # jq may not be installed, a picture is red only if a model draws it, and --watch does not end.
        command = re.sub(r" \| jq .*| --watch", "", line).replace("01kxyz…", drawn)
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0 or line.startswith("darkroom status"), (command, done.stderr)
    pictures = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png")}
    assert {"circle.png", "red.png"} <= pictures
    assert [name for name in pictures if name.startswith("pictures/")]  # the folder was made


@contextmanager
def answering(status: int, headers: dict[str, str], body: bytes = b"{}") -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A server that answers all requests alike; its URL, and the headers of the requests."""
    heard: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", heard
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_the_token_goes_to_its_server_only(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")}
    with answering(200, {}, b"\x89PNG") as (elsewhere, heard_elsewhere):
        redirect = {"Location": f"{elsewhere}/v1/models"}
        with answering(302, redirect) as (url, heard):
            done = subprocess.run(
                [DARKROOM, "models"],
                cwd=tmp_path,
                env=environment | {"DARKROOM_URL": url, "DARKROOM_TOKEN": "dr_secret"},
                capture_output=True,
                text=True,
                check=False,
            )
            assert (done.returncode, elsewhere in done.stderr) == (2, True)
            assert heard[0]["authorization"] == "Bearer dr_secret"
            assert heard_elsewhere == []
        drawn = {"id": "abc", "status": "succeeded", "output": [f"{elsewhere}/a.png"], "input": {}}
        with answering(200, {}, json.dumps(drawn).encode()) as (url, _):
            done = subprocess.run(
                [DARKROOM, "get", "abc", "-o", "a.png"],
                cwd=tmp_path,
                env=environment | {"DARKROOM_URL": url, "DARKROOM_TOKEN": "dr_secret"},
                capture_output=True,
                text=True,
                check=False,
            )
            assert (done.returncode, done.stdout) == (0, "a.png\n")
            assert ["authorization" in each for each in heard_elsewhere] == [False]


def test_events_are_read_as_the_standard_says() -> None:
    lines = [": hello", "event: progress", "id: 7", 'data: {"step":', "data:1}", "", "", "data: {}", "", "data: cut"]
    assert list(parsed(lines)) == [("progress", {"step": 1}), ("message", {})]
