"""The systemd units: what systemd itself says of them."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.group import darkroom
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


STARTS_WORKERS = re.compile(rf"^ExecStart={PROGRAM} (worker|up|host) ", re.MULTILINE)
DRAWING = [unit for unit in UNITS if STARTS_WORKERS.search(unit.read_text())]


def test_three_units_draw() -> None:
    assert [unit.name for unit in DRAWING] == ["darkroom-host.service", "darkroom-worker@.service", "darkroom.service"]


@pytest.mark.parametrize("unit", DRAWING, ids=lambda unit: unit.name)
def test_what_draws_is_given_more_time_to_stop_than_it_takes(unit: Path) -> None:
    set_here = re.findall(r"^Environment=GRACE_SECONDS=(\d+)$", unit.read_text(), re.MULTILINE)
    in_the_example = re.findall(r"^# GRACE_SECONDS=(\d+)$", (DEPLOY / ".env.example").read_text(), re.MULTILINE)
    (limit_s,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit.read_text(), re.MULTILINE)
    assert in_the_example
    for grace_s in set_here + in_the_example:
        assert int(limit_s) >= int(grace_s) + 20


@pytest.mark.parametrize("unit", DRAWING, ids=lambda unit: unit.name)
def test_what_draws_may_use_the_devices_of_the_gpu(unit: Path) -> None:
    assert "SupplementaryGroups=video render" in unit.read_text().splitlines()
    assert "PrivateDevices" not in unit.read_text()


def test_the_environment_file_that_the_units_read_is_not_half_a_key() -> None:
    lines = (DEPLOY / ".env.example").read_text().splitlines()
    assert not [line for line in lines if re.match(r"S3_(ACCESS_KEY_ID|SECRET_ACCESS_KEY)=", line)]
