"""The help of every command, as a page: `python -m cli.commands_reference docs/cli.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from cli.generated_tables import between_marks
from cli.group import darkroom

WIDTH = 100


def with_commands(page: str) -> str:
    """The page with a fresh reference between its marks. Raises ValueError if it has no marks."""
    return between_marks(page, "\n".join(reference()))


def reference() -> Iterator[str]:
    """Markdown: a heading and the help of each command, and of each command within a group."""
    root = click.Context(darkroom, info_name="darkroom", max_content_width=WIDTH, terminal_width=WIDTH)
    yield from _described(darkroom, root)


def _described(command: click.Command, ctx: click.Context) -> Iterator[str]:
    if ctx.parent is not None and not isinstance(command, click.Group):
        yield from (f"### {ctx.command_path}", "", "```text", command.get_help(ctx).rstrip(), "```", "")
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            inner = command.get_command(ctx, name)
            assert inner is not None
            more = click.Context(
                inner, info_name=name, parent=ctx, help_option_names=["-h", "--help"], terminal_width=WIDTH
            )
            yield from _described(inner, more)


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(with_commands(page.read_text(encoding="utf-8")), encoding="utf-8")
