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
