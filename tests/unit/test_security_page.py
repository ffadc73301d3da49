"""docs/security.md: each promise names tests, and each test that is named exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "security.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
# The rows of each table.
PROMISES = re.findall(r"^\| promise \| tests \|\n\|---\|---\|\n((?:\|.*\|\n)+)", PAGE, re.MULTILINE)


@cache
def names_of_tests(file: str) -> set[str]:
    """The test functions of a file. Raises FileNotFoundError."""
    tree = ast.parse((REPOSITORY / file).read_text(encoding="utf-8"))
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {function.name for function in functions if function.name.startswith("test_")}


@pytest.mark.parametrize(("file", "name"), sorted(set(NAMED)))
def test_a_test_that_the_page_names_exists(file: str, name: str) -> None:
    assert name in names_of_tests(file)


def test_each_promise_names_a_test() -> None:
    rows = [row for table in PROMISES for row in table.splitlines()]
    assert len(PROMISES) == PAGE.count("| promise |") > 0
    assert [row for row in rows if not re.search(r"`tests/[\w/]+\.py::\w+`", row)] == []


def test_the_page_writes_each_test_with_its_file() -> None:
    """A name without a file would not be checked above."""
    named = {name for _, name in NAMED}
    assert set(re.findall(r"\btest_\w+(?!\w|\.py)", PAGE)) - {Path(file).stem for file, _ in NAMED} == named
