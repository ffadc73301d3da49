"""What `GET /v1/predictions` is asked for: the page, and the filters."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from api.errors import InvalidInput
from api.parsing.cursor import parse_moment
from api.parsing.list_query import query
from api.parsing.paging import asked_page
from api.parsing.validation import shown, validated
from api.schemas import Metadata
from api.services import services
from storage.errors import UnknownModel
from storage.postgres.database import Connection, Row
from storage.predictions.lists.filters import Filters
from storage.predictions.lists.page import Page
from storage.predictions.lists.search import UnsearchableWords, search
from storage.predictions.read import read_predictions
from storage.predictions.states import PredictionStatus

PARAMETERS = (
    "cursor", "limit", "q", "model", "status", "metadata", "keep", "created_after", "created_before", "source",
)  # fmt: skip
MAX_LIMIT = 100
MAX_SEARCH_CHARS = 400
# Replicate's parameter. Here all predictions are made with the API.
SOURCES = ("api", "web")


@dataclass(frozen=True)
class ListRequest:
    """A list that was asked for, checked."""

    page: Page
    filters: Filters
    source: str | None

    def read(self, conn: Connection, token_id: int | None) -> list[Row]:
        """Its predictions, newest first. With a `token_id`, only those of that token. Raises InvalidInput."""
        if self.filters.are_none:
            return read_predictions(conn, self.page, token_id=token_id, source=self.source)
        try:
            return search(conn, self.filters, self.page, token_id=token_id, source=self.source)
        except UnsearchableWords as error:
            raise InvalidInput("q", str(error)) from None


def list_request() -> ListRequest:
    """The list that this request's query asks for. Raises InvalidInput."""
    given = query(*PARAMETERS)
    limit = _limit(given.get("limit"))
    window = {name: parse_moment(name, given[name]) for name in ("created_after", "created_before") if name in given}
    source = given.get("source")
    if source is not None:
        _one_of("source", source, SOURCES)
    return ListRequest(
        page=asked_page(given.get("cursor"), limit, **window),
        filters=Filters(
            words=_words(given["q"]) if "q" in given else None,
            model=_model(given["model"]) if "model" in given else None,
            statuses=_statuses(given["status"]) if "status" in given else None,
            metadata=_metadata(given["metadata"]) if "metadata" in given else None,
            keep=_one_of("keep", given["keep"], ("true", "false")) == "true" if "keep" in given else None,
        ),
        source=source,
    )


def _limit(text: str | None) -> int:
    if text is None:
        return MAX_LIMIT
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_LIMIT)) and 1 <= int(text) <= MAX_LIMIT):
        raise InvalidInput("limit", f"{shown(text)} is not a number from 1 to {MAX_LIMIT}")
    return int(text)


def _words(text: str) -> str:
    if len(text) > MAX_SEARCH_CHARS:
        raise InvalidInput("q", f"has {len(text)} characters; a search takes at most {MAX_SEARCH_CHARS}")
    return _storable("q", text)


def _model(reference: str) -> str:
    """The name of a model. One that the catalog doesn't know (any more) may have predictions all the same."""
    try:
        return services().catalog.find(reference).name
    except UnknownModel as error:
        if "/" not in reference:
            raise InvalidInput("model", str(error)) from None
        return _storable("model", reference)


def _statuses(text: str) -> frozenset[PredictionStatus]:
    return frozenset(PredictionStatus(_one_of("status", each, tuple(PredictionStatus))) for each in text.split(","))


class _WithMetadata(BaseModel):
    model_config = ConfigDict(strict=True)

    metadata: Metadata


def _metadata(text: str) -> dict[str, Any]:
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidInput("metadata", f'{shown(text)} is not a JSON object such as {{"project": "x"}}') from None
    return validated(_WithMetadata, {"metadata": given}).metadata


def _one_of(field: str, text: str, known: tuple[str, ...]) -> str:
    if text not in known:
        raise InvalidInput(field, f"{shown(text)} is none of {', '.join(known)}")
    return text


def _storable(field: str, text: str) -> str:
    """Postgres stores no NUL. (Werkzeug has replaced what isn't UTF-8.)"""
    if "\0" in text:
        raise InvalidInput(field, "must not contain the character NUL")
    return text
