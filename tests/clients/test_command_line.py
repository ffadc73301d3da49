"""`darkroom generate`, `list`, `get`, … as people run them: a process of its own against a running service."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cli.client.events import parsed
from cli.client.tables import echo_json, plain
from storage.postgres.database import Connection
from tests.clients.guarding import token
from tests.conftest import REPOSITORY
from tests.support.eventually import eventually
from tests.support.serving import Service

DARKROOM = str(Path(sys.executable).parent / "darkroom")


def environment_of(service: Service, *, token: str = "", **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DARKROOM_", "DATABASE_"))}
    return kept | {"DARKROOM_URL": service.url, "DARKROOM_TOKEN": token} | more


def darkroom(service: Service, folder: Path, *words: str, token: str = "") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [DARKROOM, *words],
        cwd=folder,
        env=environment_of(service, token=token),
        capture_output=True,
        timeout=120,
        check=False,
    )


def text_of(done: subprocess.CompletedProcess[bytes]) -> str:
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


def test_a_picture_is_drawn_and_saved_and_its_file_is_named(service: Service, tmp_path: Path) -> None:
    assert text_of(darkroom(service, tmp_path, "generate", "a red circle", "-o", "circle.jpg")) == "circle.jpg"
    with Image.open(tmp_path / "circle.jpg") as picture:
        assert (picture.format, picture.size) == ("JPEG", (64, 64))


def test_several_pictures_are_numbered(service: Service, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    named = text_of(darkroom(service, tmp_path, "generate", "a boat", "-n", "3", "-o", "pictures")).splitlines()
    assert [Path(each).name[26:] for each in named] == ["-1.png", "-2.png", "-3.png"]
    assert all((tmp_path / each).is_file() for each in named)
    assert text_of(darkroom(service, tmp_path, "generate", "a boat", "-n", "2", "-o", "b.webp")).split() == [
        "b-1.webp",
        "b-2.webp",
    ]


def test_standard_output_gets_the_bytes_alone(service: Service, tmp_path: Path) -> None:
    done = darkroom(service, tmp_path, "generate", "a boat", "-o", "-")
    assert (done.returncode, done.stderr) == (0, b"")
    with Image.open(io.BytesIO(done.stdout)) as picture:
        assert picture.format == "PNG"
    assert list(tmp_path.iterdir()) == []


def test_all_inputs_reach_the_server(service: Service, tmp_path: Path) -> None:
    words = ["--seed", "7", "--size", "128x64", "--steps", "3", "--guidance", "1.5", "--negative-prompt", "rain"]
    words += ["-i", "output_quality=50", "-i", "aspect_ratio=1:1", "-m", "dall-e-3", "--json"]
    done = json.loads(text_of(darkroom(service, tmp_path, "generate", "a boat", *words)))
    assert done["status"] == "succeeded"
    assert done["input"] == {
        "prompt": "a boat",
        "seed": 7,
        "size": "128x64",
        "num_inference_steps": 3,
        "guidance_scale": 1.5,
        "negative_prompt": "rain",
        "output_quality": 50,
        "aspect_ratio": "1:1",
    }
    assert list(tmp_path.iterdir()) == []  # with --json, only -o saves


def test_a_file_is_sent_as_the_start_image_and_a_mask(service: Service, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "blue").save(tmp_path / "blue.png")
    Image.new("L", (64, 64), 255).save(tmp_path / "all.png")
    words = ["--image", "blue.png", "--mask", "all.png", "--strength", "0.5", "--json"]
    done = json.loads(text_of(darkroom(service, tmp_path, "generate", "a boat", *words)))
    assert done["status"] == "succeeded"
    assert done["input"]["strength"] == 0.5
    assert "image/png" in done["input"]["image"]
    several = ["-m", "darkroom/slow", "--steps", "1", "--image", "blue.png", "--image", "all.png", "--json"]
    done = json.loads(text_of(darkroom(service, tmp_path, "generate", "two boats", *several)))
    assert (done["status"], len(done["input"]["images"])) == ("succeeded", 2)
    missing = darkroom(service, tmp_path, "generate", "a boat", "--image", "none.png")
    assert (missing.returncode, b"none.png can't be read" in missing.stderr) == (2, True)


def test_pictures_that_cant_be_sent_or_are_too_many_are_refused_with_the_reason(
    service: Service, tmp_path: Path
) -> None:
    Image.new("RGB", (64, 64), "blue").save(tmp_path / "a.png")
    Image.new("RGB", (64, 64), "red").save(tmp_path / "b.png")
    several = darkroom(
        service, tmp_path, "generate", "a boat", "-m", "darkroom/blank", "--image", "a.png", "--image", "b.png"
    )
    assert (several.returncode, several.stdout) == (2, b"")
    assert "2 images were sent; darkroom/blank takes one image" in several.stderr.decode()
    for option in ("--image", "--mask"):
        empty = darkroom(service, tmp_path, "generate", "a boat", option, "")
        assert (empty.returncode, empty.stdout) == (2, b"")
        assert "The name of a picture is empty" in empty.stderr.decode()


def test_loras_are_asked_for_by_name_with_their_scale(service: Service, tmp_path: Path) -> None:
    def sent(*loras: str) -> subprocess.CompletedProcess[bytes]:
        words = [word for lora in loras for word in ("--lora", lora)]
        return darkroom(service, tmp_path, "generate", "a boat", "-m", "darkroom/nobody", "--detach", "--json", *words)

    asked = json.loads(text_of(sent("outlined:0.5", "pastel")))["input"]
    assert asked["loras"] == [{"name": "outlined", "scale": 0.5}, {"name": "pastel"}]
    assert "loras" not in json.loads(text_of(sent()))["input"]
    # The last: a URL has colons itself, and is the API's to judge.
    for given, reason in {
        "ink": "no LoRA 'ink': it has outlined, pastel",
        "outlined:9": "input.loras.0.scale: Input should be less than or equal to 4",
        "outlined:strong": "'strong' is no number",
        "outlined:nan": "'nan' is no number",
        "outlined:": "'' is no number",
        ":0.5": "the name is empty",
        "": "the name is empty",
        "https://example.com:8443/a.safetensors": "LORA_ALLOW",
        "https://example.com/a.safetensors:0.5": "LORA_ALLOW",
    }.items():
        refused = sent(given)
        assert (refused.returncode, refused.stdout) == (2, b""), given
        assert reason in refused.stderr.decode(), refused.stderr.decode()


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


@pytest.mark.parametrize("detached", [False, True])
def test_ctrl_c_cancels_what_is_waited_for(service: Service, tmp_path: Path, detached: bool) -> None:
    words = ["watch", _slow(service, tmp_path)] if detached else ["generate", "slowly", "-m", "darkroom/slow"]
    running = subprocess.Popen(
        [DARKROOM, *words, *([] if detached else ["--steps", "50"])],
        cwd=tmp_path,
        env=environment_of(service),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    newest = _newest(service, tmp_path, words[1] if detached else "slowly")
    eventually(lambda: _newest(service, tmp_path, newest["input"]["prompt"])["status"] == "processing")
    time.sleep(0.5)  # it follows the events by now; before, the signal just ends it
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    status = _newest(service, tmp_path, newest["input"]["prompt"])["status"]
    assert (running.returncode, status) == ((130, "canceled") if not detached else (-signal.SIGINT, "processing"))
    darkroom(service, tmp_path, "cancel", newest["id"])


def _slow(service: Service, folder: Path) -> str:
    return text_of(darkroom(service, folder, "generate", "watched", "-m", "darkroom/slow", "--steps", "50", "--detach"))


def _newest(service: Service, folder: Path, prompt: str) -> dict[str, Any]:
    def found() -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = json.loads(text_of(darkroom(service, folder, "list", "-n", "3", "--json")))
        return [each for each in listed if prompt in (each["id"], each["input"]["prompt"])]

    eventually(lambda: bool(found()))
    return found()[0]


def in_a_terminal(service: Service, folder: Path, *words: str, size: tuple[int, int], **more: str) -> tuple[int, str]:
    """The exit code, and what is shown on a terminal of so many rows and columns."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, size)
    environment = environment_of(service, TERM="xterm-256color") | more
    running = subprocess.Popen([DARKROOM, *words], cwd=folder, env=environment, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    seen = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # the other side has ended
            break
        seen += piece
    os.close(master)
    return running.wait(60), seen.decode(errors="replace")


@pytest.mark.parametrize("size", [(40, 80), (0, 0)])
def test_in_a_terminal_there_is_progress_and_the_picture(
    service: Service, tmp_path: Path, size: tuple[int, int]
) -> None:
    words = ["generate", "a boat", "--steps", "20", "-o", "boat.png"]
    code, seen = in_a_terminal(service, tmp_path, *words, size=size)
    assert code == 0, seen
    assert "of 20" in seen
    assert ("▀" in seen) == (size != (0, 0))  # the test answers no question for sixel or kitty
    assert (tmp_path / "boat.png").is_file()


def test_colours_are_for_terminals_that_want_them(service: Service, tmp_path: Path) -> None:
    coloured = re.compile("\x1b\\[3[0-9]m")
    for more, wanted in (({}, True), ({"NO_COLOR": "1"}, False)):
        _, seen = in_a_terminal(service, tmp_path, "status", size=(40, 80), **more)
        assert ("darkroom/blank" in seen, bool(coloured.search(seen))) == (True, wanted)
    assert not coloured.search(darkroom(service, tmp_path, "status").stdout.decode())


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


def test_a_prompt_writes_no_escape_sequences_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "a\x1b]0;title\x07b\x9bc\nd\u202ee\u2066f\x7f"
    assert plain(hostile) == "a ]0;title b c d e f "
    for indent in (None, 2):
        echo_json({hostile: hostile, "猫": "é"}, indent=indent)
        written = capsys.readouterr().out
        assert json.loads(written) == {hostile: hostile, "猫": "é"}
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", written)
        assert "猫" in written
