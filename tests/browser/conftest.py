"""Chromium, as Debian has it: `apt-get install chromium`. Playwright drives it and downloads nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from storage.postgres.database import Connection, connect
from tests.browser.drawing import opened
from tests.browser.pages import PageServer
from tests.conftest import RunningServices
from tests.support.serving import Service, serving

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    "--no-sandbox",  # tests run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-features=LocalNetworkAccessChecks",  # Chromium's own guard of loopback: other browsers have none
    "--host-resolver-rules=MAP * 127.0.0.1",  # every name is this machine; nothing else can be reached
]

expect.set_options(timeout=60_000)  # ms; its own 5 s are too short for a machine that does other things too


@pytest.fixture(scope="module")  # not longer: while it lives, asyncio.run() fails in other tests of this process
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    executable = next(filter(None, map(shutil.which, NAMES)), None)
    if executable is None:
        said = "Chromium is not installed (apt-get install chromium): nothing is tried in a browser"
        if os.environ.get("CI") == "true":
            pytest.fail(said)
        pytest.skip(said)
    home = tmp_path_factory.mktemp("chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=executable, args=ARGUMENTS, env={**os.environ, "HOME": str(home)}
        )
        yield started
        started.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser without a past."""
    made = browser.new_context()
    yield made
    made.close()


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    """A web server that is not ours, with an empty page."""
    folder: Path = tmp_path_factory.mktemp("elsewhere")
    (folder / "index.html").write_text("<!doctype html><title>elsewhere</title>")
    with PageServer(folder) as server:
        yield server


@pytest.fixture(scope="session")
def service(services: RunningServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(services, tmp_path_factory.mktemp("page")) as running:
        yield running


@pytest.fixture
def conn(service: Service) -> Iterator[Connection]:
    with connect(service.settings.database_url, application_name="test") as opened:
        yield opened
        opened.execute("TRUNCATE predictions CASCADE")


@pytest.fixture
def page(context: BrowserContext, service: Service, conn: Connection) -> Iterator[Page]:
    with opened(context, service.url) as found:
        yield found
