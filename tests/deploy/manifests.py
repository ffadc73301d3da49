"""The Kubernetes manifests as kustomize builds them."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
KUBERNETES = REPOSITORY / "deploy" / "kubernetes"
OVERLAYS = sorted(folder.name for folder in (KUBERNETES / "overlays").iterdir())
# What replacements put the queue's name in the place of; it stands in the files themselves.
QUEUE_PLACEHOLDER = "queue from model.yaml"

Manifest = dict[str, Any]


def build(overlay: str) -> list[Manifest]:
    """Everything that `kubectl apply -k` would send. Skips the test where there is no kustomize."""
    return build_folder(KUBERNETES / "overlays" / overlay)


def build_folder(folder: Path) -> list[Manifest]:
    """The same for any folder with a kustomization."""
    for words in (["kustomize", "build"], ["kubectl", "kustomize"]):
        if shutil.which(words[0]):
            return _build(folder, tuple(words))
    pytest.skip("needs kustomize or kubectl")


def copy_with(folder: Path, changes: dict[str, tuple[str, str]]) -> Path:
    """All the manifests in a folder of the test's own, a text in some files replaced by another; where they are."""
    copied = folder / "kubernetes"
    shutil.copytree(KUBERNETES, copied)
    for name, (before, after) in changes.items():
        text = (copied / name).read_text()
        assert before in text
        (copied / name).write_text(text.replace(before, after))
    return copied


def trigger_query(file: str, *, queue_name: str) -> str:
    """The query of the KEDA trigger in a file of ours, for a queue."""
    document = yaml.safe_load((KUBERNETES / file).read_text())
    query: str = document["spec"]["triggers"][0]["metadata"]["query"]
    assert query.count(f"'{QUEUE_PLACEHOLDER}'") == 1
    return query.replace(QUEUE_PLACEHOLDER, queue_name)


@cache
def _build(folder: Path, words: tuple[str, ...]) -> list[Manifest]:
    command = [*words, str(folder)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert built.returncode == 0, built.stderr
    return list(yaml.safe_load_all(built.stdout))
