"""The API as clients reach it, the disk, and the secrets."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import urllib3

from api.settings import ApiSettings
from cli.doctor.finding import Finding, broken, first_line, warning, well

FULL_BYTES, LITTLE_BYTES = 200_000_000, 2_000_000_000


def check_api(settings: ApiSettings) -> Iterator[Finding]:
    url = settings.public_url.rstrip("/")
    try:
        answer = urllib3.request("GET", f"{url}/readyz", retries=False, timeout=10, redirect=False)
    except urllib3.exceptions.HTTPError as error:
        yield broken(
            "api",
            f"PUBLIC_URL ({url}) can't be reached from here: {first_line(error)}",
            "start `darkroom api`, or set PUBLIC_URL to the address that clients use; all links begin with it",
        )
        return
    try:
        checks = json.loads(answer.data)["checks"]
    except (ValueError, KeyError, TypeError):
        yield broken(
            "api",
            f"PUBLIC_URL ({url}) leads to something else: /readyz answered {answer.status}",
            "look at the proxy in front of the API: the path of PUBLIC_URL has to lead to its root",
        )
        return
    bad = [f"{name}: {state}" for name, state in checks.items() if state != "ok"]
    if bad:
        yield broken("api", f"{url} is up but can't serve ({', '.join(bad)})", "see what is said of these parts here")
    else:
        yield well("api", f"{url} answers and can serve")


def check_secrets(settings: ApiSettings) -> Iterator[Finding]:
    if settings.secret_key is None or not settings.secret_key.get_secret_value():
        yield warning(
            "secrets",
            "SECRET_KEY is not set: the secrets that sign webhooks are not encrypted in the database",
            "set it to the output of `openssl rand -hex 32`, the same for every role",
        )


def check_disk(folder: Path) -> Iterator[Finding]:
    there = next(each for each in (folder, *folder.parents) if each.exists())
    free = shutil.disk_usage(there).free
    text = f"{free / 1e9:.1f} GB are free for {folder}"
    if free < FULL_BYTES:
        yield broken("disk", text, "free some space: Postgres stops where there is none")
    elif free < LITTLE_BYTES:
        yield warning("disk", text, "free some space, or lower RETENTION_S")
    else:
        yield well("disk", text)
