"""The Makefile: values reach the command as they were given, whatever characters are in them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.acceptance.running_up import CATALOG, REPOSITORY, RunningUp

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")

AWKWARD = ["my data", "it's", '"quoted"', "a$b, $(HOME), $HOME", "semi;colon && true", "`id`", "back\\slash", "*", "#1"]
INSTALLED = ("-o", ".venv/.installed")  # make takes it for up to date


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """A folder with a `darkroom` that prints the words after its name."""
    script = tmp_path / "darkroom"
    script.write_text(f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    script.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize("value", AWKWARD)
def test_each_value_of_make_up_is_one_word_of_the_command(recording: Path, value: str) -> None:
    values = {name: f"{value} {name}" for name in ("PORT", "HOST", "DATA", "MODELS", "WORKERS", "IDLE_EXIT")}
    named = {f"--{name.lower().replace('_', '-')}": each for name, each in values.items()}
    expected = ["up", *(word for pair in named.items() for word in pair)]
    from_words = _make("up", f"BIN={recording}", *(f"{name}={each}" for name, each in values.items()))
    assert json.loads(from_words) == expected
    assert json.loads(_make("up", f"BIN={recording}", env=values)) == expected


def test_values_that_are_not_given_are_no_words(recording: Path) -> None:
    assert json.loads(_make("up", f"BIN={recording}")) == ["up"]
    assert json.loads(_make("up", f"BIN={recording}", "PORT=", "DATA=x")) == ["up", "--data", "x"]


def test_a_python_in_a_folder_with_a_space_is_asked_for_its_version(tmp_path: Path) -> None:
    python = tmp_path / "old python's"
    python.write_text('#!/bin/sh\n[ "$1" = -V ] && echo Python 3.9.1\nexit 1\n')
    python.chmod(0o755)
    done = subprocess.run(
        ["make", "--always-make", ".venv/.installed", f"PYTHON={python}"],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert f"Darkroom needs Python 3.11 or later; {python} is Python 3.9.1" in done.stdout


def test_make_up_draws_with_its_data_and_catalog_in_folders_of_awkward_names(folder: Path) -> None:
    data, models = folder / "data", folder / "it's my $models, 1.toml"
    awkward = folder / "it's my $data"
    awkward.mkdir()
    data.symlink_to(awkward)  # where RunningUp looks
    models.write_text(CATALOG)
    command = ["make", "--silent", *INSTALLED, "up", f"BIN={_bin(folder)}", "PORT=0", f"DATA={awkward}",
               f"MODELS={models}"]  # fmt: skip
    with RunningUp(folder, make=command) as running:
        running.wait_until_ready()
        assert running.lines[0] == f"Starting Darkroom, with its data in {awkward}"
        assert running.wait_for_status(running.submit(), "succeeded") == "succeeded"
        os.killpg(running.process.pid, signal.SIGINT)  # as a terminal does: make and what it runs
        running.process.wait(60)


def test_a_clone_in_a_folder_with_a_space_is_installed_and_runs(tmp_path: Path) -> None:
    clone = tmp_path / "my clone"
    shutil.copytree(
        REPOSITORY, clone, ignore=shutil.ignore_patterns(".*", "tests", "bench", "__pycache__", "*.egg-info")
    )
    # The dependencies are there already: pip finds those of this environment, and installs Darkroom alone.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", ".venv"], cwd=clone, check=True)
    (packages,) = (clone / ".venv").glob("lib/python*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"))
    subprocess.run(
        ["make", "--silent", ".venv/.installed", "PIP_ARGS=--no-build-isolation --no-index"], cwd=clone, check=True
    )
    done = subprocess.run(
        [clone / ".venv/bin/darkroom", "queues"], cwd=clone, capture_output=True, text=True, check=True,
        env={name: value for name, value in os.environ.items() if name != "MODELS"},
    )  # fmt: skip
    assert done.stdout.split() == ["darkroom/pocket", "draw-darkroom.pocket"]


def _bin(folder: Path) -> Path:
    """A folder with `darkroom`, where the environment of the tests may have none."""
    script = folder / "bin" / "darkroom"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cli.main "$@"\n')
    script.chmod(0o755)
    return script.parent


def _make(*words: str, env: dict[str, str] | None = None) -> str:
    command = ["make", "--silent", *INSTALLED, *words]
    environment = {name: value for name, value in os.environ.items() if name not in ("MODELS", "HOST", "DATA", "PORT")}
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment | (env or {}), capture_output=True, text=True, check=True
    )
    return done.stdout
