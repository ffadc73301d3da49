"""The systemd units: what systemd itself says of them."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.commands import darkroom
from tests.deploy.dockerfile import DEPLOY

UNITS = sorted((DEPLOY / "systemd").iterdir())
PROGRAM = "/opt/darkroom/venv/bin/darkroom"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_accepts_every_unit(tmp_path: Path) -> None:
    names = []
    for unit in UNITS:
        there = tmp_path / unit.name
        there.write_text(unit.read_text().replace(PROGRAM, "/bin/true"))  # it wants the program to exist
        names.append(str(there).replace("@.", "@one."))
    (tmp_path / "darkroom-worker@one.service").symlink_to(tmp_path / "darkroom-worker@.service")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *names], capture_output=True, text=True, timeout=60, check=False
    )
    ours = [line for line in done.stderr.splitlines() if "darkroom" in line and "Failed to resolve" not in line]
    assert ours == []


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_every_command_line_is_one_of_ours(unit: Path) -> None:
    lines = re.findall(rf"^ExecStart(?:Pre)?={PROGRAM} (.*)$", unit.read_text(), re.MULTILINE)
    assert lines
    for line in lines:
        command, *options = shlex.split(line)
        shown = CliRunner().invoke(darkroom, [command, "--help"])
        assert shown.exit_code == 0
        for option in options:
            assert not option.startswith("--") or option in shown.output


def test_the_worker_is_given_more_time_to_stop_than_it_takes() -> None:
    text = (DEPLOY / "systemd" / "darkroom-worker@.service").read_text()
    (grace_s,) = re.findall(r"GRACE_SECONDS=(\d+)$", text, re.MULTILINE)
    (limit_s,) = re.findall(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)
    assert int(limit_s) >= int(grace_s) + 20
