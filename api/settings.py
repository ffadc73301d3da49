"""Settings of the API, beside the ones that everybody shares."""

from __future__ import annotations

from pydantic import Field

from storage.settings import Settings


class ApiSettings(Settings):
    """Every field is the environment variable of the same name in upper case."""

    api_threads: int = Field(default=64, ge=2, description="requests at once, those that wait included")
    api_max_waiting: int = Field(
        default=48, ge=1, description="of these, requests with `Prefer: wait`; one more gets its answer at once"
    )
    max_body_bytes: int = Field(default=64 * 1024, ge=1024)
    auth: str = Field(
        default="auto",
        pattern="^(auto|tokens|none)$",
        description="whether requests need a token; auto: as soon as one was made, and never reachable without",
    )
    rate_limit_per_minute: int = Field(
        default=0, ge=0, description="predictions that a token may create in a minute, unless it says otherwise; 0: any"
    )
    max_queued: int = Field(
        default=0, ge=0, description="predictions of a token that may wait, unless it says otherwise; 0: any number"
    )
    cors_origins: str = Field(default="", description="web origins that may call the API, comma-separated")
