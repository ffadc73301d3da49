"""The direction of the arrows: api → storage ← worker, torch in the engine alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

FORBIDDEN = {
    "storage": {"api", "courier", "worker", "cli", "flask", "torch", "diffusers"},
    "api": {"courier", "worker", "cli", "torch", "diffusers"},
    "courier": {"api", "worker", "cli", "flask", "torch", "diffusers"},
    "worker": {"api", "courier", "cli", "flask"},
    "migrations": {"api", "courier", "worker", "cli"},
}


def imported_by(file: Path) -> set[str]:
    """The top-level names that a file imports, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("folder", sorted(FORBIDDEN))
def test_no_file_imports_what_its_folder_must_not(folder: str) -> None:
    wrong = {
        str(file.relative_to(REPOSITORY)): found
        for file in (REPOSITORY / folder).rglob("*.py")
        if (found := imported_by(file) & FORBIDDEN[folder])
    }
    assert wrong == {}


def test_torch_is_imported_in_the_engine_alone() -> None:
    wrong = [
        str(file.relative_to(REPOSITORY))
        for folder in ("api", "courier", "storage", "worker", "cli", "migrations")
        for file in (REPOSITORY / folder).rglob("*.py")
        if imported_by(file) & {"torch", "diffusers", "transformers"} and "engine" not in file.parts
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("api.app", ["torch", "diffusers", "worker"]),
        ("courier.main", ["torch", "diffusers", "flask", "api"]),
        ("worker.main", ["torch", "diffusers", "flask", "api"]),
        ("cli.main", ["torch", "flask", "sqlalchemy", "boto3"]),
    ],
)
def test_importing_a_role_loads_nothing_of_the_others(module: str, unwanted: list[str]) -> None:
    program = f"import sys, {module}; print(' '.join(n for n in {unwanted!r} if n in sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=120
    )
    assert result.stdout.strip() == ""
