"""The commands by name, each read from its file when it is used, and what becomes of their errors."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from cli.error_line import error_line

# What `darkroom` lists, in this order: the file and, where it holds several, the click command in it.
COMMANDS = {
    "up": "cli.commands.up",
    "generate": "cli.commands.generate",
    "list": "cli.commands.predictions:list_predictions",
    "get": "cli.commands.predictions:get",
    "watch": "cli.commands.predictions:watch",
    "cancel": "cli.commands.predictions:cancel",
    "keep": "cli.commands.predictions:keep",
    "delete": "cli.commands.predictions:delete",
    "models": "cli.commands.server:models",
    "usage": "cli.commands.server:usage",
    "status": "cli.commands.server:status",
    "doctor": "cli.commands.doctor",
    "check": "cli.commands.check",
    "mcp": "cli.commands.mcp",
    "tokens": "cli.commands.tokens",
    "webhooks": "cli.commands.webhooks",
    "queues": "cli.commands.queues",
    "workers": "cli.commands.workers",
    "api": "cli.commands.api",
    "host": "cli.commands.host",
    "worker": "cli.commands.worker",
    "courier": "cli.commands.courier",
    "migrate": "cli.commands.migrate",
    "prepare": "cli.commands.prepare",
    "completion": "cli.commands.completion",
}
HIDDEN = {"warm-parent": "cli.commands.warm_parent"}
EXIT_OPERATOR_ERROR = 2


class Commands(click.Group):
    """A group that imports a command when it is asked for, and shows what the operator has to mend as one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = (COMMANDS | HIDDEN).get(cmd_name)
        if module is None:
            return None
        file, _, name = module.partition(":")
        command = getattr(importlib.import_module(file), name or "command")
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
@click.version_option(package_name="darkroom")
@click.pass_context
def darkroom(ctx: click.Context) -> None:
    """Text-to-image on your own GPUs, bucket and Postgres. `darkroom up` runs all of it on this machine."""
    if os.environ.get("NO_COLOR"):
        ctx.color = False
