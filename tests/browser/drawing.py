"""The page in a browser: opening it, asking it to draw, and what it shows."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import requests
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import BrowserContext, Locator, Page, expect

from storage.postgres.database import Connection
from tests.support.serving import Service

SLOW = "darkroom/slow"
NOBODYS = "darkroom/nobody"  # no worker serves it

# The colour in the middle of a picture, as [red, green, blue].
COLOUR = """async image => {
    await image.decode()
    const canvas = Object.assign(document.createElement("canvas"), {width: 1, height: 1})
    const context = canvas.getContext("2d")
    context.drawImage(image, 0, 0, 1, 1)
    return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3)
}"""


@contextmanager
def opened(context: BrowserContext, url: str, *, allowed: tuple[str, ...] = ()) -> Iterator[Page]:
    """The page, ready to draw. At the end it must have reported no error and asked no other host for anything.

    `allowed`: parts of messages on the console that belong to what is tried.
    """
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    page.on("request", lambda sent: wrong.append(sent.url) if not is_own(sent.url, url) else None)
    page.goto(url)
    yield page
    page.close()
    unexpected = [each for each in wrong if not any(part in each for part in allowed)]
    assert not unexpected, unexpected


def is_own(asked: str, url: str) -> bool:
    return asked.startswith("data:") or urlsplit(asked).netloc == urlsplit(url).netloc


def ask(page: Page, prompt: str, model: str) -> Locator:
    """Ask for a picture; returns its card."""
    expect(page.locator("#submit")).to_be_enabled()
    page.select_option("#model", model)
    page.fill("#prompt", prompt)
    page.press("#prompt", "Enter")
    card = card_of(page, prompt)
    card.wait_for()
    return card


def card_of(page: Page, prompt: str) -> Locator:
    return page.locator(".card", has=page.get_by_text(prompt, exact=True)).first


def is_over(card: Locator, status: str = "succeeded") -> None:
    """Wait until the card says that it ended like this."""
    expect(card).to_have_attribute("data-status", status, timeout=60_000)


def colour(image: Locator) -> Any:
    return image.evaluate(COLOUR)


BLANK = "darkroom/blank"


def words() -> str:
    return f"a circle {secrets.token_hex(4)}"


def made(service: Service, prompt: str, **more: Any) -> Any:
    body = {"model": NOBODYS, "input": {"prompt": prompt}} | more
    answer = requests.post(f"{service.url}/v1/predictions", json=body, timeout=30)
    assert answer.ok, answer.text
    return answer.json()


def fill(conn: Connection, count: int) -> None:
    """Canceled predictions, a minute apart, with the prompts "number 1" (the newest) to "number {count}"."""
    conn.execute(
        """
        INSERT INTO predictions (id, status, model, version, queue_name, input, parameters, created_at, completed_at,
                                 deadline_at)
        SELECT lpad(n::text, 26, '0'), 'canceled', %s, '1', 'q', jsonb_build_object('prompt', 'number ' || n), '{}',
               now() - n * interval '1 minute', now(), now()
        FROM generate_series(1, %s) AS n
        """,
        (BLANK, count),
    )


def findings(page: Page) -> list[str]:
    violations = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {node['target']} {node['failureSummary']}"
        for each in violations
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


def png(colour: str) -> bytes:
    file = BytesIO()
    Image.new("RGB", (8, 8), colour).save(file, "PNG")
    return file.getvalue()
