"""Settings of the API, beside the ones that everybody shares."""

from __future__ import annotations

from ipaddress import ip_network
from math import ceil

from pydantic import Field, field_validator, model_validator

from storage.settings import Settings


class ApiSettings(Settings):
    """Every field is the environment variable of the same name in upper case."""

    # Threads are made when they are needed, and one that sleeps in a stream costs about 50 kB.
    api_threads: int = Field(
        default=512, ge=4, description="the most requests at once, including those that wait or stream"
    )
    api_busy_threads: int = Field(
        default=8, ge=1, description="requests that are processed at once; those that wait or stream don't count"
    )
    api_max_waiting: int = Field(
        default=128, ge=1, description="the most requests with `Prefer: wait`; one more is answered at once"
    )
    api_max_streams: int = Field(default=256, ge=1, description="the most streams; one more gets 503 and Retry-After")
    openai_wait_s: float = Field(
        default=300, ge=5, description="how long POST /v1/images/generations waits; then its prediction is canceled"
    )
    max_body_bytes: int = Field(default=64 * 1024, ge=1024, description="the largest body of a request")
    max_input_image_bytes: int = Field(
        default=20 * 1024 * 1024,
        ge=1024,
        description="the largest picture, or other file, that a request may send or name by URL",
    )
    max_input_image_pixels: int = Field(
        default=25_000_000,
        ge=4096,
        le=178_956_970,
        description="width × height of such a picture. Reading pictures takes up to 12 bytes of memory a pixel of this",
    )
    input_image_allow: str = Field(
        default="",
        description="private servers that pictures may be fetched from, also without TLS: networks and host names,"
        " comma-separated",
    )
    input_image_timeout_s: float = Field(
        default=15, gt=0, le=300, description="wall-clock time for fetching a picture by its URL, redirects included"
    )
    api_max_fetches: int = Field(
        default=64, ge=1, description="pictures that are fetched by URL at once; one more gets 503 and Retry-After"
    )
    api_max_uploads: int = Field(
        default=128,
        ge=1,
        description="requests with more than MAX_BODY_BYTES at once, which lie on the disk; one token alone gets half",
    )
    max_files: int = Field(default=1000, ge=0, description="uploaded files that a token may have at once")
    max_header_bytes: int = Field(
        default=16 * 1024, ge=1024, le=1024 * 1024, description="the largest header of a request, with its first line"
    )
    max_header_fields: int = Field(default=100, ge=16, le=10_000, description="the most header fields of a request")

    # What a client may take; api/server/ keeps to it.
    api_header_timeout_s: float = Field(
        default=10,
        gt=0,
        description="time until a request's header, and a new connection's first byte, must have arrived",
    )
    api_body_timeout_s: float = Field(
        default=30,
        gt=0,
        description="time until a body must have arrived; for a large one, its size / API_MIN_BYTES_PER_S",
    )
    api_send_timeout_s: float = Field(
        default=30,
        gt=0,
        description="time until a client must have read an answer or an event; for a large one as with bodies",
    )
    api_min_bytes_per_s: int = Field(
        default=32 * 1024, ge=1, description="how fast a client must be, in both directions"
    )
    api_keepalive_s: float = Field(
        default=75, ge=0, description="how long a connection stays open between two requests; longer than the proxy's"
    )
    api_max_connections: int = Field(
        default=8192, ge=64, description="connections at once; one more closes the oldest that wait for their client"
    )
    api_max_connections_per_address: int = Field(
        default=256,
        ge=0,
        description="connections of one client address (IPv6: of one /64); one more is closed. 0: no limit",
    )
    proxy_addresses: str = Field(
        default="127.0.0.0/8,::1",
        description="networks of proxies, to which API_MAX_CONNECTIONS_PER_ADDRESS doesn't apply; comma-separated",
    )
    api_max_buffered_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=1024 * 1024,
        description="memory for incomplete requests and for answers that clients have not read; the oldest are closed",
    )
    auth: str = Field(
        default="auto",
        pattern="^(auto|tokens|none)$",
        description="whether requests need a token; auto: once a token exists, and always if others can reach it",
    )
    rate_limit_per_minute: int = Field(
        default=0,
        ge=0,
        description="predictions that a token may create in a minute, unless it has its own limit; 0: no limit",
    )
    max_queued: int = Field(
        default=0, ge=0, description="predictions of a token that may wait, unless it has its own limit; 0: no limit"
    )
    max_images: int = Field(
        default=0,
        ge=0,
        description="images of one prediction, unless a token says otherwise; 0: as many as the model draws",
    )
    fair: bool = Field(
        default=True,
        description="tokens take turns in the queue, so one token's backlog doesn't delay the others; "
        "false: the oldest prediction is drawn first",
    )
    cors_origins: str = Field(default="", description="web origins that may call the API, comma-separated; *: all")
    allowed_hosts: str = Field(
        default="",
        description="more host names under which the API answers while it needs no token, comma-separated",
    )

    @property
    def max_upload_bytes(self) -> int:
        """The largest body of a request that may carry pictures: two of them as base64, and the rest of the request."""
        return 2 * ceil(self.max_input_image_bytes / 3) * 4 + self.max_body_bytes

    @field_validator("proxy_addresses")
    @classmethod
    def _networks(cls, value: str) -> str:
        for part in filter(None, (part.strip() for part in value.split(","))):
            ip_network(part, strict=False)  # its ValueError says what is wrong
        return value

    @model_validator(mode="after")
    def _threads_are_left(self) -> ApiSettings:
        if self.api_max_waiting + self.api_max_streams >= self.api_threads:
            raise ValueError(
                "API_MAX_WAITING + API_MAX_STREAMS must be below API_THREADS: other requests need threads, too"
            )
        return self
