"""The commands by name, each read from its file when it is used, and what becomes of their errors."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from cli.error_line import error_line

# What `darkroom` lists, in this order; each file holds a click command named `command`.
COMMANDS = {
    "up": "cli.commands.up",
    "api": "cli.commands.api",
    "worker": "cli.commands.worker",
    "courier": "cli.commands.courier",
    "migrate": "cli.commands.migrate",
    "tokens": "cli.commands.tokens",
    "webhooks": "cli.commands.webhooks",
    "prepare": "cli.commands.prepare",
    "queues": "cli.commands.queues",
    "workers": "cli.commands.workers",
}
EXIT_OPERATOR_ERROR = 2


class Commands(click.Group):
    """A group that imports a command when it is asked for, and shows what the operator has to mend as one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(COMMANDS[cmd_name]).command
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            line = error_line(error)
            if line is None:
                raise
            click.echo(f"darkroom: {line}", err=True)
            sys.exit(EXIT_OPERATOR_ERROR)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def darkroom() -> None:
    """Text-to-image on your own GPUs, bucket and Postgres. `darkroom up` runs all of it on this machine."""
