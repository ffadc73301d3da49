"""Encrypts the secrets in the database, so that a database backup doesn't reveal the signing keys."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from storage.errors import OperatorError
from storage.settings import Settings

SEALED = "sealed:"
MIN_KEY_CHARS = 32


@dataclass(frozen=True)
class Sealer:
    """Encrypts with the first key of SECRET_KEY and decrypts with any of its keys. Without a key, text stays plain."""

    fernet: MultiFernet | None
    first: Fernet | None = None

    def seal(self, text: str) -> str:
        return text if self.fernet is None else SEALED + self.fernet.encrypt(text.encode()).decode()

    def open(self, stored: str) -> str:
        """Decrypt. Raises OperatorError if none of the keys fits."""
        if not stored.startswith(SEALED):
            return stored
        try:
            if self.fernet is None:
                raise InvalidToken
            return self.fernet.decrypt(stored.removeprefix(SEALED)).decode()
        except InvalidToken:
            if self.fernet is None:
                raise OperatorError(
                    "The signing secrets in the database are encrypted, but SECRET_KEY is not set:"
                    " set it to the value that the other processes have."
                ) from None
            raise OperatorError(
                "The signing secrets in the database are encrypted with another SECRET_KEY:"
                " add the SECRET_KEY that was used before (SECRET_KEY may contain several keys, separated by commas)."
            ) from None

    def needs_sealing(self, stored: str) -> bool:
        """Whether the text is not encrypted with the first key, although there is one."""
        if self.first is None:
            return False
        try:
            self.first.decrypt(stored.removeprefix(SEALED))
        except InvalidToken:
            return True
        return not stored.startswith(SEALED)


IN_THE_CLEAR = Sealer(None)


def open_sealer(settings: Settings) -> Sealer:
    """Raises OperatorError if a key is too short."""
    text = settings.secret_key.get_secret_value() if settings.secret_key else ""
    keys = [key.strip() for key in text.split(",") if key.strip()]
    if any(len(key) < MIN_KEY_CHARS for key in keys):
        raise OperatorError(
            f"SECRET_KEY needs at least {MIN_KEY_CHARS} random characters: `openssl rand -hex 32` makes them."
        )
    if not keys:
        return IN_THE_CLEAR
    fernets = [Fernet(_derive(key)) for key in keys]
    return Sealer(MultiFernet(fernets), fernets[0])


def _derive(key: str) -> bytes:
    """Derive the 32 bytes that Fernet needs from a key of any length. They are used for this purpose only."""
    kdf = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=b"darkroom signing_keys")
    return base64.urlsafe_b64encode(kdf.derive(key.encode()))
