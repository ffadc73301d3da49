"""The commands of clients in a terminal: progress, pictures, colours, Ctrl-C."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import termios
from pathlib import Path
from typing import Any

import pytest
import requests

from cli.client.tables import echo_json, plain
from tests.clients.darkroom_command import DARKROOM, darkroom, environment_of, text_of
from tests.support.eventually import eventually
from tests.support.serving import Service


@pytest.mark.parametrize("watched", [False, True])
def test_ctrl_c_cancels_what_is_waited_for(service: Service, tmp_path: Path, watched: bool) -> None:
    """What is only watched is not cancelled. No worker draws this model, so the prediction can't end first."""
    eventually(lambda: streams_of(service) == 0)
    words = ["watch", _detached(service, tmp_path)] if watched else ["generate", "slowly", "-m", "darkroom/nobody"]
    running = subprocess.Popen(
        [DARKROOM, *words], cwd=tmp_path, env=environment_of(service), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    eventually(lambda: streams_of(service) > 0)  # it follows the events by now; before, the signal just ends it
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    newest = _newest(service, tmp_path, words[1])
    expected = (-signal.SIGINT, "starting") if watched else (130, "canceled")
    assert (running.returncode, newest["status"]) == expected
    darkroom(service, tmp_path, "cancel", newest["id"])


def streams_of(service: Service) -> float:
    """How many clients the API sends events to."""
    figures = requests.get(f"{service.url}/metrics", timeout=30).text
    found = re.search(r"^darkroom_api_streams_open (\S+)$", figures, re.MULTILINE)
    assert found is not None, figures
    return float(found[1])


def _detached(service: Service, folder: Path) -> str:
    return text_of(darkroom(service, folder, "generate", "watched", "-m", "darkroom/nobody", "--detach"))


def _newest(service: Service, folder: Path, asked: str) -> dict[str, Any]:
    """The newest prediction of this prompt or id."""
    listed: list[dict[str, Any]] = json.loads(text_of(darkroom(service, folder, "list", "-n", "3", "--json")))
    return next(each for each in listed if asked in (each["id"], each["input"]["prompt"]))


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


def test_a_prompt_writes_no_escape_sequences_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "a\x1b]0;title\x07b\x9bc\nd\u202ee\u2066f\x7f"
    assert plain(hostile) == "a ]0;title b c d e f "
    for indent in (None, 2):
        echo_json({hostile: hostile, "猫": "é"}, indent=indent)
        written = capsys.readouterr().out
        assert json.loads(written) == {hostile: hostile, "猫": "é"}
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", written)
        assert "猫" in written
