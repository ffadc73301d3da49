"""Tiny pipelines, built once a run, and saved once where loading is what is tested."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.engine.tiny_pipelines import save, tiny_zimage


@pytest.fixture(scope="session")
def zimage() -> Any:
    """A random ZImagePipeline in float32."""
    return tiny_zimage()


@pytest.fixture(scope="session")
def zimage_folder(zimage: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(zimage, tmp_path_factory.mktemp("tiny") / "zimage")
