"""One running service for all the tests of clients in a test process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import RunningServices
from tests.serving import Service, serving


@pytest.fixture(scope="session")
def service(services: RunningServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(services, tmp_path_factory.mktemp("service"), courier=True, API_MAX_STREAMS="60") as running:
        yield running
