"""A command rewrites its own section of a page and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import kills
from tests.chaos import run as chaos
from tests.conftest import REPOSITORY
from tests.mutants import run as mutants
from tests.support.report_sections import write_section

PAGE = """\
# By hand

<!-- written by make a -->

old

<!-- end of what make a writes -->

Between, by hand.

<!-- written by make b -->
<!-- end of what make b writes -->
"""


def test_a_section_is_replaced_and_what_people_wrote_stays(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    write_section(page, "make a", ["new", "lines"])
    assert page.read_text() == PAGE.replace("old", "new\nlines")
    write_section(page, "make a", ["old"])
    assert page.read_text() == PAGE


@pytest.mark.parametrize("broken", ["", PAGE + PAGE, PAGE.replace("<!-- end of what make a writes -->\n", "")])
def test_a_page_without_the_marks_is_left_alone(tmp_path: Path, broken: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(broken)
    with pytest.raises(ValueError, match="has no place for what make a writes"):
        write_section(page, "make a", ["new"])
    assert page.read_text() == broken


def test_the_page_on_reliability_has_a_place_for_each_of_its_commands(tmp_path: Path) -> None:
    page = tmp_path / "reliability.md"
    page.write_text((REPOSITORY / "docs" / "reliability.md").read_text())
    for command in (kills.COMMAND, chaos.COMMAND, mutants.COMMAND):
        write_section(page, command, ["figures"])
    assert page.read_text().count("\n\nfigures\n\n") == 3
