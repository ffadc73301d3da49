"""Which folder may import which: everybody imports storage, api and worker and courier never each other."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

FORBIDDEN = {
    "storage": {"api", "worker", "courier", "cli", "flask", "torch", "diffusers"},
    "api": {"worker", "courier", "cli", "torch", "diffusers"},
    "worker": {"api", "courier", "cli", "flask"},
    "courier": {"api", "worker", "cli", "flask", "torch", "diffusers"},
    "migrations": {"api", "worker", "courier", "cli"},
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


@pytest.mark.parametrize(
    ("folder", "forbidden"), [("supervision", ("cli.host", "cli.up")), ("host", ("cli.up",)), ("embedded", ("cli.up",))]
)
def test_what_darkroom_up_and_darkroom_host_share_knows_of_neither(folder: str, forbidden: tuple[str, ...]) -> None:
    for file in (REPOSITORY / "cli" / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                assert not node.module.startswith(forbidden), file


def test_torch_is_imported_in_the_engine_alone() -> None:
    wrong = [
        str(file.relative_to(REPOSITORY))
        for folder in ("api", "storage", "worker", "courier", "cli", "migrations")
        for file in (REPOSITORY / folder).rglob("*.py")
        if imported_by(file) & {"torch", "diffusers", "transformers"} and "engine" not in file.parts
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("api.app", ["torch", "diffusers", "worker", "courier", "sqlalchemy", "alembic"]),
        ("courier.main", ["torch", "diffusers", "flask", "api", "worker", "sqlalchemy", "alembic"]),
        ("worker.main", ["torch", "diffusers", "flask", "api", "courier", "sqlalchemy", "alembic"]),
        ("cli.main", ["torch", "flask", "sqlalchemy", "boto3"]),
    ],
)
def test_importing_a_role_loads_nothing_of_the_others(module: str, unwanted: list[str]) -> None:
    program = f"import sys, {module}; print(' '.join(n for n in {unwanted!r} if n in sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=120
    )
    assert result.stdout.strip() == ""
