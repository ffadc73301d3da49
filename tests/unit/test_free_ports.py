"""Ports that are chosen here are nobody else's choice, also before anything listens on them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from cli.embedded import ports
from cli.embedded.ports import free_ports


def test_they_differ_also_from_call_to_call() -> None:
    chosen = [*free_ports(20), *free_ports(20)]
    assert len(set(chosen)) == 40


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has names that end with their process")
def test_another_process_does_not_choose_them_as_long_as_this_one_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both may choose among a few only: the other process takes ports of the system's instead."""
    # Above the ports that the system gives to connections, so that other tests' servers haven't taken all of them.
    first = 61_000 + os.getpid() % 200 * 20
    monkeypatch.setattr(ports, "LOWEST", first)
    monkeypatch.setattr(ports, "_first_ephemeral", lambda: first + 20)
    ours = set(free_ports(20)) & set(range(first, first + 20))
    assert ours
    program = (
        f"from cli.embedded import ports; ports.LOWEST = {first}; ports._first_ephemeral = lambda: {first + 20};"
        "print(*ports.free_ports(20))"
    )
    asked = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    theirs = {int(port) for port in asked.stdout.split()}
    assert len(theirs) == 20
    assert not ours & theirs
