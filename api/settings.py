"""Settings of the API, beside the ones that everybody shares."""

from __future__ import annotations

from pydantic import Field, model_validator

from storage.settings import Settings


class ApiSettings(Settings):
    """Every field is the environment variable of the same name in upper case."""

    # Threads are made when they are needed, and one that sleeps in a stream costs about 50 kB.
    api_threads: int = Field(default=512, ge=4, description="requests at once, those that wait or stream included")
    api_busy_threads: int = Field(
        default=8, ge=1, description="of these, requests that neither wait nor stream; more of them wait their turn"
    )
    api_max_waiting: int = Field(
        default=128, ge=1, description="of these, requests with `Prefer: wait`; one more gets its answer at once"
    )
    api_max_streams: int = Field(default=256, ge=1, description="of these, streams; one more gets 503 and Retry-After")
    openai_wait_s: float = Field(
        default=300, ge=5, description="how long POST /v1/images/generations waits; then its prediction is canceled"
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
    cors_origins: str = Field(default="", description="web origins that may call the API, comma-separated; *: all")
    allowed_hosts: str = Field(
        default="",
        description="while no token is needed: host names under which the API answers, beside its own, comma-separated",
    )

    @model_validator(mode="after")
    def _threads_are_left(self) -> ApiSettings:
        if self.api_max_waiting + self.api_max_streams >= self.api_threads:
            raise ValueError("API_MAX_WAITING + API_MAX_STREAMS must be below API_THREADS, or nobody else is answered")
        return self
