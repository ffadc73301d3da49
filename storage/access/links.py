"""Absolute URLs of this API. Signed URLs let a browser open an image without a token."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote


@dataclass(frozen=True)
class Links:
    """Makes and checks URLs. The first of `keys` signs; all of them are accepted."""

    public_url: str
    keys: tuple[bytes, ...]

    def of_prediction(self, prediction_id: str, stream_expires_at: datetime) -> dict[str, str]:
        """The `urls` of a prediction.

        Replicate's JavaScript client opens `stream` without a token, so the URL is signed. If its path begins with
        /v1/files/, as Replicate's does, the client turns the events into files. `events` is for browsers: EventSource
        and WebSocket can't send a token either.
        """
        get = f"{self.public_url}/v1/predictions/{prediction_id}"
        stream = self._signed(f"{prediction_id}/stream", stream_expires_at)
        events = self._signed(f"{prediction_id}/events", stream_expires_at)
        return {"get": get, "cancel": f"{get}/cancel", "stream": stream, "events": events, "web": get}

    def of_image(self, prediction_id: str, index: int, extension: str, expires_at: datetime) -> str:
        """A URL that serves one image until `expires_at`. The same arguments always give the same URL."""
        return self._signed(f"{prediction_id}/{index}.{extension}", expires_at)

    def of_upload(self, file_id: str, expires_at: datetime) -> str:
        """A URL that serves a file that a client has uploaded, until `expires_at`."""
        return self._signed(f"{file_id}/download", expires_at)

    def _signed(self, name: str, expires_at: datetime) -> str:
        expires = int(expires_at.timestamp())
        signature = _sign(self.keys[0], name, expires)
        return f"{self.public_url}/v1/files/{quote(name)}?expires={expires}&signature={signature}"

    def verify(self, name: str, expires: str, signature: str, *, now: datetime) -> bool:
        """Whether the signature of `name` (the path after /files/) is valid and has not expired.

        `now` is the database's time.
        """
        if not expires.isascii() or not expires.isdigit() or len(expires) > 12:
            return False
        is_valid = any(
            hmac.compare_digest(_sign(key, name, int(expires)).encode(), signature.encode()) for key in self.keys
        )
        return is_valid and now.timestamp() < int(expires)


def _sign(key: bytes, name: str, expires: int) -> str:
    return hmac.new(key, f"{name}\n{expires}".encode(), hashlib.sha256).hexdigest()
