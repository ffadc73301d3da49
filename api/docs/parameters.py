"""Headers and query parameters of the API, as `/openapi.json` and `/docs` describe them."""

from __future__ import annotations

from api.parsing.list_request import MAX_SEARCH_CHARS
from storage.predictions.states import PredictionStatus
from storage.webhooks.history import STATUSES

PARAMETERS: dict[str, dict[str, object]] = {
    "Prefer": {
        "example": "wait=30",
        "description": "Wishes: `wait` or `wait=60` at most, and `warm` or `warm=3600` at most: the "
        "model stays ready for so many seconds. Anything else is ignored.",
    },
    "Cancel-After": {
        "pattern": r"^([5-9]|[1-9][0-9]{1,5})s?$"
        r"|^[1-9][0-9]{0,2}h([0-9]{1,4}m)?([0-9]{1,4}s)?$|^[1-9][0-9]{0,3}m([0-9]{1,4}s)?$",
        "example": "90s",
    },
    "Idempotency-Key": {"pattern": "^[!-~]{1,255}$", "example": "order-17"},
    "X-Darkroom-Strict": {"enum": ["1"]},
    "Range": {"pattern": "^bytes=[0-9]{1,9}-[0-9]{0,9}$", "example": "bytes=0-1023"},
    "If-None-Match": {"pattern": '^"[0-9a-f]{64}"$'},
    "cursor": {"description": "From `next` or `previous`, as it is."},
    "source": {"enum": ["api", "web"], "description": "How they were made. All are made with the API so far."},
    "created_after": {"format": "date-time"},
    "created_before": {"format": "date-time"},
    "status": {"enum": list(STATUSES)},
    "prediction_id": {"pattern": "^[0-9a-hjkmnp-tv-z]{26}$"},
    "from": {"format": "date", "example": "2026-01-01", "description": "The first day, UTC."},
    "to": {"format": "date", "example": "2026-01-31", "description": "The last day, today by default."},
    "by": {"pattern": "^(day|token|model)(,(day|token|model)){0,2}$", "example": "day,model"},
    "format": {"enum": ["json", "csv"]},
    "expires": {"pattern": "^[0-9]{1,12}$"},
    "signature": {"pattern": "^[0-9a-f]{64}$"},
}
# Of the list of predictions.
FILTERS: dict[str, dict[str, object]] = {
    "limit": {"pattern": "^([1-9][0-9]?|100)$", "description": "Predictions on a page: 1 to 100 (the default)."},
    "q": {
        "maxLength": MAX_SEARCH_CHARS,
        "pattern": "^[^\\x00]*[A-Za-z0-9][^\\x00]*$",
        "description": "Words of the prompt. All of them must be in it; the last one may be the beginning of a word.",
    },
    "model": {"pattern": "^[a-z0-9]+/[a-z0-9]+$", "description": "owner/name, or an alias."},
    "status": {
        "pattern": f"^({'|'.join(PredictionStatus)})(,({'|'.join(PredictionStatus)}))*$",
        "description": "One or several, separated by commas.",
    },
    "metadata": {
        "pattern": r'^\{"[a-z]{1,64}":"[a-z0-9]{0,64}"\}$',
        "example": '{"project":"x"}',
        "description": "A JSON object whose pairs are all in the prediction's metadata.",
    },
    "keep": {"enum": ["true", "false"]},
}
SUBMIT_HEADERS = ("Prefer", "Cancel-After", "Idempotency-Key", "X-Darkroom-Strict")
SIGNED = ("expires", "signature")
