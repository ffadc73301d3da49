"""Clients that run in a process of their own: a script that prints what it got, as JSON."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from typing import Any


def said_by(command: Sequence[str], *, timeout_s: float = 120, **more: Any) -> dict[str, Any]:
    """What the script said. `more` goes to subprocess.run: its folder, its environment."""
    run = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False, **more)
    assert run.returncode == 0, run.stderr
    said: dict[str, Any] = json.loads(run.stdout)
    return said
