"""`darkroom completion`: the script that completes commands and options in a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

VARIABLE = "_DARKROOM_COMPLETE"


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Write the completion script of a shell.

    \b
    bash   source <(darkroom completion bash)                    in ~/.bashrc
    zsh    source <(darkroom completion zsh)                     in ~/.zshrc, after compinit
    fish   darkroom completion fish > ~/.config/fish/completions/darkroom.fish
    """
    completion = get_completion_class(shell)
    assert completion is not None
    click.echo(completion(ctx.find_root().command, {}, "darkroom", VARIABLE).source())
