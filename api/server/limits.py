"""How much and how long a client may take."""

from __future__ import annotations

from dataclasses import dataclass

from api.settings import ApiSettings


@dataclass(frozen=True)
class Limits:
    """All times are wall-clock seconds for the whole thing, so bytes that drip in or out don't extend them."""

    header_bytes: int
    header_s: float
    body_bytes: int
    upload_bytes: int  # of a body with pictures, if the caller may draw
    body_s: float
    send_s: float
    bytes_per_s: int
    keepalive_s: float

    @classmethod
    def of(cls, settings: ApiSettings) -> Limits:
        return cls(
            header_bytes=settings.max_header_bytes,
            header_s=settings.api_header_timeout_s,
            body_bytes=settings.max_body_bytes,
            upload_bytes=settings.max_upload_bytes,
            body_s=settings.api_body_timeout_s,
            send_s=settings.api_send_timeout_s,
            bytes_per_s=settings.api_min_bytes_per_s,
            keepalive_s=settings.api_keepalive_s,
        )

    def to_receive_s(self, body_bytes: int) -> float:
        """How long a body of this size may take to arrive."""
        return max(self.body_s, body_bytes / self.bytes_per_s)

    def to_send_s(self, size_bytes: int) -> float:
        """How long a client may take to read this much."""
        return max(self.send_s, size_bytes / self.bytes_per_s)
