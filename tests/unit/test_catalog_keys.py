"""The table of the catalog's keys in docs/models.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.catalog_keys import table, with_table

PAGE = Path(__file__).parents[2] / "docs" / "models.md"


def test_the_page_has_the_table_that_the_classes_give_today() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_table(page), "run `make docs`"


def test_every_key_has_its_meaning_and_the_tables_in_a_table_are_there_too() -> None:
    rows = [row.strip("|").split(" | ") for row in table().splitlines()[2:]]
    assert all(row[-1].strip() for row in rows), [row[0] for row in rows if not row[-1].strip()]
    keys = [row[0].strip() for row in rows]
    assert {"`version`", "`limits.max_outputs`", "`device.compile`", "`blank.step_s`"} <= set(keys)
    assert "`name`" not in keys
    assert "| `limits.max_outputs` | whole number from 1 to 10 | `4` |" in table()


def test_a_page_without_the_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="make docs"):
        with_table("# Models")
