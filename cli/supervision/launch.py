"""Starting a role as a child of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import cli
from cli.processes import start_child


def start_role(
    role: str, *options: str, env: Mapping[str, str], stdin: int = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    """`darkroom ROLE …` with its output in a pipe."""
    installed = Path(sys.executable).parent / "darkroom"
    words = [str(installed)] if installed.exists() else ["-m", "cli.main"]
    return start_child([sys.executable, *words, role, *options], env=env, stdin=stdin)


def for_children(env: Mapping[str, str]) -> dict[str, str]:
    """The same environment, in which a child writes its lines at once and finds our code."""
    more = {"PYTHONUNBUFFERED": "1"}
    if not (Path(sys.executable).parent / "darkroom").exists():
        checkout = str(Path(cli.__file__).parents[1])
        more["PYTHONPATH"] = os.pathsep.join(filter(None, [checkout, env.get("PYTHONPATH")]))
    return {**env, **more}
