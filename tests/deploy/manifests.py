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
    for words in (["kustomize", "build"], ["kubectl", "kustomize"]):
        if shutil.which(words[0]):
            return _build(overlay, tuple(words))
    pytest.skip("needs kustomize or kubectl")


def trigger_query(file: str, *, queue_name: str) -> str:
    """The query of the KEDA trigger in a file of ours, for a queue."""
    document = yaml.safe_load((KUBERNETES / file).read_text())
    query: str = document["spec"]["triggers"][0]["metadata"]["query"]
    assert query.count(f"'{QUEUE_PLACEHOLDER}'") == 1
    return query.replace(QUEUE_PLACEHOLDER, queue_name)


@cache
def _build(overlay: str, words: tuple[str, ...]) -> list[Manifest]:
    command = [*words, str(KUBERNETES / "overlays" / overlay)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert built.returncode == 0, built.stderr
    return list(yaml.safe_load_all(built.stdout))
