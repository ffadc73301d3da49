"""`darkroom warm-parent`: what `darkroom up` and `darkroom host` fork their workers from. Not for the command line."""

from __future__ import annotations

import signal
import socket
import sys

import click


@click.command("warm-parent", hidden=True)
@click.option(
    "--spare",
    default="",
    expose_value=False,
    help="Room for the words of a forked worker.",
)
def command() -> None:
    """Import everything a worker needs, and fork workers for the supervisor whose socket is our stdin."""
    from cli.host.warm_parent.process import serve

    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        orders = socket.socket(fileno=0)
    except OSError:
        raise click.UsageError("`darkroom up` and `darkroom host` run this command: it isn't one to type.") from None
    sys.exit(serve(orders))
