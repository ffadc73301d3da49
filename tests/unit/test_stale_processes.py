"""What an earlier run left behind is found by its record, and nothing else is."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cli.processes import start_child
from cli.supervision.stale_processes import ProcessRecord


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    started = start_child([sys.executable, "-c", "import time; time.sleep(60)"], env={})
    yield started
    started.kill()
    started.wait()
    assert started.stdout is not None
    started.stdout.close()


def change_record(folder: Path, **changes: object) -> None:
    path = folder / "processes.json"
    [recorded] = json.loads(path.read_text())
    path.write_text(json.dumps([recorded | changes]))


def test_a_process_is_found_and_ended_also_after_the_clock_was_set(
    child: subprocess.Popen[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ProcessRecord(tmp_path).add("courier", child.pid)
    if sys.platform == "linux":  # the boot's time of day, as Linux has it after the clock was set
        booted = psutil.boot_time()
        monkeypatch.setattr("psutil._pslinux.boot_time", lambda: booted + 3600)
    assert ProcessRecord(tmp_path).end_leftovers() == ["courier"]
    assert child.wait(10) != 0


@pytest.mark.parametrize("changes", [{"started": 1.0}, {"boot": "another"}])
def test_a_pid_of_another_process_or_another_boot_is_left_alone(
    child: subprocess.Popen[bytes], tmp_path: Path, changes: dict[str, object]
) -> None:
    ProcessRecord(tmp_path).add("courier", child.pid)
    change_record(tmp_path, **changes)
    assert ProcessRecord(tmp_path).end_leftovers() == []
    assert child.poll() is None


def test_a_record_of_an_earlier_release_ends_nothing(child: subprocess.Popen[bytes], tmp_path: Path) -> None:
    (tmp_path / "processes.json").write_text(json.dumps([{"role": "api", "pid": child.pid, "create_time": 1.0}]))
    assert ProcessRecord(tmp_path).end_leftovers() == []
    assert child.poll() is None
