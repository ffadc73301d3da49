"""The mutation check itself runs by hand (`make mutants`); here only that its edits still fit the code."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.mutants.breakages import BREAKAGES, Breakage
from tests.mutants.run import REPOSITORY, apply


@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda breakage: breakage.name.replace(" ", "-"))
def test_a_breakage_fits_the_code_and_gives_python(breakage: Breakage, tmp_path: Path) -> None:
    for edit in breakage.edits:
        copy = tmp_path / edit.path
        copy.parent.mkdir(parents=True, exist_ok=True)
        if not copy.exists():
            copy.write_text((REPOSITORY / edit.path).read_text())
        apply(tmp_path, edit)
        ast.parse(copy.read_text())
    for test in breakage.tests:
        path, _, name = test.partition("::")
        assert f"def {name}" in (REPOSITORY / path).read_text()
