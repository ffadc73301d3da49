"""The tables of the settings in docs/settings.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.settings import ApiSettings
from cli.settings_reference import tables, with_tables
from worker.settings import WorkerSettings

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def rows() -> list[list[str]]:
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in tables().splitlines() if "| `" in row]


def test_the_page_has_the_tables_that_the_classes_give_today() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_tables(page), "run `make docs`"


def test_every_setting_of_every_part_is_there_once_and_has_a_meaning() -> None:
    names = [name.strip("`") for name, *_ in rows()]
    assert len(names) == len(set(names))
    assert set(names) == {name.upper() for part in (ApiSettings, WorkerSettings) for name in part.model_fields}
    assert [name for name, *_, meaning in rows() if not meaning] == []


def test_bounds_choices_and_defaults_are_written_as_in_the_environment() -> None:
    named = {name.strip("`"): (values, default) for name, values, default, _ in rows()}
    assert named["DATABASE_URL"] == ("text", "required")
    assert named["DATABASE_POOL_SIZE"] == ("whole number from 1 to 200", "`8`")
    assert named["AUTH"] == ("`auto`, `tokens`, `none`", "`auto`")
    assert named["RETENTION_S"] == ("number from 0 to 3162240000", "`604800`")
    assert named["WEBHOOK_RETRY_SCHEDULE"][1].startswith("`0,5,300,")
    assert named["S3_SECRET_ACCESS_KEY"] == ("text (secret)", "")
    assert named["EMBED_PARAMETERS"] == ("`true` or `false`", "`true`")


def test_a_page_without_the_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="make docs"):
        with_tables("# Settings")
