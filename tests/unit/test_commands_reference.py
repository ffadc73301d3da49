"""The commands in docs/cli.md, and the completion scripts."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cli.commands_reference import reference
from cli.group import COMMANDS, darkroom

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "cli.md"
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]


def test_the_page_has_the_help_of_today(tmp_path: Path) -> None:
    fresh = tmp_path / "cli.md"
    fresh.write_bytes(PAGE.read_bytes())
    # In a process of its own: click keeps the help option of a command that another test has called by itself.
    subprocess.run([sys.executable, "-m", "cli.commands_reference", str(fresh)], cwd=REPOSITORY, check=True)
    assert PAGE.read_text(encoding="utf-8") == fresh.read_text(encoding="utf-8"), "run `make docs`"


def test_every_command_is_there() -> None:
    text = "\n".join(reference())
    assert [name for name in COMMANDS if f"Usage: darkroom {name}" not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_the_docs_name_exists_with_its_options(page: Path) -> None:
    for words in re.findall(r"(?:^\$ |`)darkroom ([a-z][^`|>\n]*)", page.read_text(encoding="utf-8"), re.MULTILINE):
        command: click.Command = darkroom
        ctx = click.Context(darkroom, info_name="darkroom")
        for word in words.split():
            if isinstance(command, click.Group) and not word.startswith("-"):
                found = command.get_command(ctx, word)
                assert found is not None, f"`darkroom {words}`: there is no {word}"
                command = found
        known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        known |= {"-h", "--help", "--version"}
        for option in re.findall(r"(?<!\S)(-[a-z]|--[a-z-]+)", re.sub(r'"[^"]*"', "", words)):
            assert option in known, f"`darkroom {words}`: there is no {option}"


@pytest.mark.parametrize(("shell", "says"), [("bash", "complete "), ("zsh", "compdef"), ("fish", "complete --")])
def test_completion_scripts_are_written_and_answer(shell: str, says: str) -> None:
    script = CliRunner().invoke(darkroom, ["completion", shell], prog_name="darkroom")
    assert (script.exit_code, says in script.output) == (0, True)
    answered = subprocess.run(
        [str(Path(sys.executable).parent / "darkroom")],
        env={"_DARKROOM_COMPLETE": "bash_complete", "COMP_WORDS": "darkroom gen", "COMP_CWORD": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answered.stdout == "plain,generate\n"
