"""The Compose files of `deploy/`, as data."""

from __future__ import annotations

from typing import Any

import yaml

from tests.conftest import REPOSITORY

DEPLOY = REPOSITORY / "deploy"


def load(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text())
