"""npm's `openai` in a web page of a named origin, as it is installed from the registry."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext

from storage.access.tokens import create_token
from storage.postgres.database import connect
from tests.browser.pages import PageServer
from tests.conftest import RunningServices
from tests.support.making import count
from tests.support.serving import serving

NPM_OPENAI = "7.57.0"
NAMED = "app.example"
SCRIPT = """async ([baseURL, apiKey]) => {
    const {default: OpenAI} = await import("/node_modules/openai/index.mjs")
    const client = new OpenAI({baseURL, apiKey, dangerouslyAllowBrowser: true})
    const said = {models: (await client.models.list()).data.map(model => model.id)}
    try { await client.images.generate({model: "darkroom/nobody", prompt: "a red circle"}) }
    catch (error) { said.status = error.status; said.requestID = error.headers?.get("x-request-id") }
    return said
}"""


@pytest.fixture(scope="module")
def page_with_openai(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a web server in which the client is installed."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed: OpenAI's JavaScript client is not tried")
    folder = tmp_path_factory.mktemp("npm")
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    (folder / "index.html").write_text("<!doctype html><title>an app</title>")
    command = ["npm", "install", "--no-audit", "--no-fund", "--silent", "--ignore-scripts", f"openai@{NPM_OPENAI}"]
    if subprocess.run(command, cwd=folder, capture_output=True, timeout=120, check=False).returncode != 0:
        pytest.skip(f"npm could not install openai@{NPM_OPENAI}: no registry at hand?")
    return folder


def test_it_may_send_its_headers_and_a_504_is_not_sent_again(
    context: BrowserContext, services: RunningServices, page_with_openai: Path, tmp_path: Path
) -> None:
    with PageServer(page_with_openai) as server:
        origin = server.origin(NAMED)
        with (
            serving(services, tmp_path, workers=False, cors_origins=origin, auth="tokens", openai_wait_s=5) as service,
            connect(service.settings.database_url, application_name="test") as conn,
        ):
            page = context.new_page()
            page.goto(origin)
            said = page.evaluate(SCRIPT, [f"{service.url}/v1", create_token(conn, "page")])
            assert "darkroom/nobody" in said["models"]
            assert said["status"] == 504
            assert said["requestID"]
            assert count(conn, "predictions") == 1  # without x-should-retry it would be 3
