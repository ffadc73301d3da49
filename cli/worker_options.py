"""The options that `darkroom up` and `darkroom host` share: how workers come and go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from cli.number_options import Number

Command = TypeVar("Command", bound=Callable[..., Any])

OPTIONS = (
    click.option(
        "--idle-exit",
        "idle_exit_s",
        type=Number(min=0),
        metavar="SECONDS",
        help="A worker ends after so long without work; default: 60, or 3600 if it stands by (STANDBY_AFTER_S).",
    ),
    click.option(
        "--switch-after",
        "switch_after_s",
        type=Number(min=0),
        default=30.0,
        show_default=True,
        metavar="SECONDS",
        help="How long a worker may draw before it has to make place for a model that has no worker.",
    ),
    click.option(
        "--warm-parent/--no-warm-parent",
        default=True,
        show_default=True,
        help="Fork workers from a process that has imported everything: they start at once (Linux).",
    ),
)


def worker_options(command: Command) -> Command:
    """Add them to a command, in this order."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command
