"""Fetches a picture from the URL that a request names."""

from __future__ import annotations

from dataclasses import replace
from typing import IO

from api.auth import caller
from api.errors import InvalidInput, Problem
from api.parsing.validation import shown
from api.server.threads import expect_to_sleep
from api.services import Services
from storage.outbound.check_url import AllowList
from storage.outbound.denied_servers import DeniedServers
from storage.outbound.dns_lookup import ForbiddenAddress, Unresolvable
from storage.outbound.download import DownloadFailed, download
from storage.outbound.parse_url import InvalidURL
from storage.outbound.safe_http import NoAnswer

ACCEPT = "image/png, image/jpeg, image/webp"


def allowed_sources(text: str, own: DeniedServers) -> AllowList:
    """What INPUT_IMAGE_ALLOW permits. Raises ValueError, naming the item."""
    return replace(AllowList.parse(text, "INPUT_IMAGE_ALLOW"), denied=own)


def fetch(here: Services, field: str, url: str, into: IO[bytes]) -> int:
    """Write what the URL answers into a file; returns its size. Raises InvalidInput, Problem (503), and WriteFailed."""
    if not url.lower().startswith(("https://", "http://")):
        raise InvalidInput(
            field,
            f"must be an https: URL, a data: URL, or the URL of an uploaded file or a drawn image (got {shown(url)})",
        )
    owner = caller().token_id
    if not here.fetching.take(owner):
        raise Problem(
            503,
            "Too many fetches",
            "too many pictures are being fetched already: try again",
            headers={"Retry-After": "5"},
        )
    expect_to_sleep()
    try:
        return download(
            url,
            into,
            allow=here.picture_sources,
            max_bytes=here.settings.max_input_image_bytes,
            timeout_s=here.settings.input_image_timeout_s,
            accept=ACCEPT,
            owner=owner,
        )
    except (InvalidURL, ForbiddenAddress) as error:
        raise InvalidInput(field, str(error)) from None
    except (DownloadFailed, NoAnswer, Unresolvable) as error:
        raise InvalidInput(field, f"could not be fetched: {error}") from None
    finally:
        here.fetching.give_back(owner)
