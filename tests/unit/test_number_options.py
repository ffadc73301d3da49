"""What the command line says to a number that it can't use."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from cli.commands.tokens import command as tokens
from cli.commands.up import command as up


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--port", "abc", "'--port': 'abc' is not a whole number from 0 to 65535"),
        ("--port", "65536", "'--port': '65536' is not a whole number from 0 to 65535"),
        ("--workers", "1.5", "'--workers': '1.5' is not a whole number from 1"),
        ("--idle-exit", "soon", "'--idle-exit': 'soon' is not a number from 0"),
        ("--switch-after", "-1", "'--switch-after': '-1' is not a number from 0"),
    ],
)
def test_a_number_that_can_not_be_used_is_named_with_what_is_expected(option: str, value: str, said: str) -> None:
    result = CliRunner().invoke(up, [option, value])
    assert result.exit_code == 2
    assert said in result.output


def test_a_priority_beyond_the_highest_is_named_too() -> None:
    result = CliRunner().invoke(tokens, ["create", "n8n", "--max-priority", "10"])
    assert result.exit_code == 2
    assert "'10' is not a whole number from 0 to 9" in result.output
