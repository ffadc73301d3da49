"""A part that starts while the pooler is away waits for it, as it would if the pooler went away a moment later."""

from __future__ import annotations

import time

import psycopg
import structlog

from storage.backoff import Backoff
from storage.errors import OperatorError
from storage.postgres.database import connect
from storage.settings import Settings

log = structlog.get_logger(__name__)

TRY_AGAIN_AFTER_S = 0.25
TRY_AGAIN_AFTER_AT_MOST_S = 2.0
SAY_AGAIN_AFTER_S = 60.0


def wait_for_pooler(settings: Settings) -> None:
    """Return when DATABASE_URL accepts connections. Call it when the direct connection has been seen to work.

    Raises OperatorError where somebody answers and refuses: a wrong password won't get better by waiting.
    """
    backoff = Backoff(TRY_AGAIN_AFTER_S, at_most_s=TRY_AGAIN_AFTER_AT_MOST_S)
    say_at = time.monotonic()
    while (reason := _why_not(settings)) is not None:
        if time.monotonic() >= say_at:
            log.warning("postgres.pooler_away", hint="waiting for DATABASE_URL to accept connections", reason=reason)
            say_at = time.monotonic() + SAY_AGAIN_AFTER_S
        time.sleep(backoff.next_s())


def _why_not(settings: Settings) -> str | None:
    try:
        connect(settings.database_url, application_name="darkroom start").close()
    except psycopg.OperationalError as error:
        reason = " ".join(str(error).split())
        if "FATAL" in reason and "the database system is" not in reason:  # …starting up, shutting down, in recovery
            raise OperatorError(f"DATABASE_URL can't be used, but DATABASE_DIRECT_URL can: {reason}") from None
        return reason
    return None
