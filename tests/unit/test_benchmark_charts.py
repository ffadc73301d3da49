"""The charts of docs/benchmarks.md are drawn from the figures in its tables, and belong to the page alone."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.charts.sections import CHARTS
from bench.report import CHARTS as FOLDER
from bench.report import PAGE, charts_of_section, redraw, sections, write_section

EMPTY = "# Page\n\n<!-- memory: written by bench.memory -->\n<!-- end of memory -->\n\nBy hand.\n"
FIGURES = "| part | PSS, MB | RSS, MB |\n|---|---:|---:|\n| API | 136 | 196 |\n| *together* | 136 | |\n\nA machine."
DRAWN = {
    file: svg
    for name, text in sections(PAGE.read_text()).items()
    for file, (_, svg) in charts_of_section(name, text).items()
}


def test_every_chart_shows_the_figures_of_its_table_as_they_are_now() -> None:
    """Otherwise: python -m bench.charts."""
    stored = {file.name: file.read_text(encoding="utf-8") for file in (PAGE.parent / FOLDER).iterdir()}
    assert stored == DRAWN


def test_the_page_shows_every_chart_in_its_own_section() -> None:
    page = sections(PAGE.read_text())
    assert set(CHARTS) <= set(page)
    for name, text in page.items():
        shown = re.findall(rf"^!\[([^\]]+)\]\({FOLDER}/([^)]+)\)$", text, re.MULTILINE)
        assert shown == [(title, file) for file, (title, _) in charts_of_section(name, text).items()]


@pytest.mark.parametrize("file", DRAWN)
def test_a_chart_is_small_and_refers_to_nothing_outside_of_it(file: str) -> None:
    drawn = DRAWN[file]
    root = ElementTree.fromstring(drawn)  # noqa: S314 - our own
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert tags <= {"svg", "title", "style", "g", "rect", "path", "text"}
    assert {name for element in root.iter() for name in element.attrib}.isdisjoint({"id", "href", "onload", "style"})
    assert "prefers-color-scheme: dark" in drawn
    assert not re.search(r"url\(|@import|@font-face|https?://(?!www\.w3\.org/2000/svg)", drawn)
    assert len(drawn) < 12_000


def test_a_section_is_written_with_its_chart(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(EMPTY)
    write_section("memory", FIGURES, page)
    chart = tmp_path / FOLDER / "memory.svg"
    first = chart.read_text()
    assert ">136<" in first
    assert f"{FIGURES}\n\n![Memory at rest, by part]({FOLDER}/memory.svg)\n<!-- end of memory -->" in page.read_text()
    write_section("memory", FIGURES.replace("136", "90"), page)
    assert chart.read_text() != first
    assert page.read_text().count("memory.svg") == 1
    write_section("memory", FIGURES, page)
    assert chart.read_text() == first


def test_figures_that_were_changed_by_hand_are_drawn_anew(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(EMPTY)
    write_section("memory", FIGURES, page)
    page.write_text(page.read_text().replace("136", "91"))
    redraw(page)
    assert ">91<" in (tmp_path / FOLDER / "memory.svg").read_text()
    assert page.read_text().count("memory.svg") == 1


def test_a_section_without_figures_stays_empty(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(EMPTY)
    redraw(page)
    assert page.read_text() == EMPTY


def test_a_page_without_the_marks_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n")
    with pytest.raises(ValueError, match="has no place for memory"):
        write_section("memory", FIGURES, page)
    assert page.read_text() == "# Page\n"
    assert not (tmp_path / FOLDER).exists()
