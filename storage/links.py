"""Absolute URLs of this API, and the signatures that let a browser open an image without a token."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

EXTENSIONS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}


@dataclass(frozen=True)
class Links:
    """Makes and checks URLs. `keys`: the first one signs, all of them are accepted."""

    public_url: str
    keys: tuple[bytes, ...]

    def of_prediction(self, prediction_id: str) -> dict[str, str]:
        """The `urls` of a prediction."""
        get = f"{self.public_url}/v1/predictions/{prediction_id}"
        return {"get": get, "cancel": f"{get}/cancel", "web": get}

    def of_image(self, prediction_id: str, index: int, extension: str, expires_at: datetime) -> str:
        """A URL that serves one image until `expires_at`; a pure function of its arguments."""
        name = f"{prediction_id}/{index}.{extension}"
        expires = int(expires_at.timestamp())
        signature = _sign(self.keys[0], name, expires)
        return f"{self.public_url}/v1/files/{quote(name)}?expires={expires}&signature={signature}"

    def verify_image(self, name: str, expires: str, signature: str) -> bool:
        """Whether `name` (`{prediction_id}/{index}.{extension}`) was signed by us and has not expired."""
        if not expires.isascii() or not expires.isdigit() or len(expires) > 12:
            return False
        genuine = any(
            hmac.compare_digest(_sign(key, name, int(expires)).encode(), signature.encode()) for key in self.keys
        )
        return genuine and datetime.now(UTC).timestamp() < int(expires)


def _sign(key: bytes, name: str, expires: int) -> str:
    return hmac.new(key, f"{name}\n{expires}".encode(), hashlib.sha256).hexdigest()
