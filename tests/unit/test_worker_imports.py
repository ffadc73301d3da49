"""No two files of the worker import each other, directly or through others. Imports inside functions count too."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


def imports_of(file: Path, modules: set[str]) -> set[str]:
    """The modules among `modules` that a file imports, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (members & modules) or {node.module}
    return found & modules


def test_the_worker_has_no_import_circle() -> None:
    files = {module_of(file): file for file in (REPOSITORY / "worker").rglob("*.py")}
    graph = {module: imports_of(file, set(files)) - {module} for module, file in files.items()}
    assert "worker.engine.interface" in graph["worker.engine.device.choose"], "it reads the files"
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle
