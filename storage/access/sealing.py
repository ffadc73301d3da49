"""Secrets in the database, encrypted: whoever gets hold of a backup gets no signing key with it."""

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
    """Encrypts with the first key of SECRET_KEY and decrypts with any; without a key it leaves text as it is."""

    fernet: MultiFernet | None
    first: Fernet | None = None

    def seal(self, text: str) -> str:
        return text if self.fernet is None else SEALED + self.fernet.encrypt(text.encode()).decode()

    def open(self, stored: str) -> str:
        """Raises OperatorError where it was sealed with a key that we don't have."""
        if not stored.startswith(SEALED):
            return stored
        try:
            if self.fernet is None:
                raise InvalidToken
            return self.fernet.decrypt(stored.removeprefix(SEALED)).decode()
        except InvalidToken:
            if self.fernet is None:
                raise OperatorError(
                    "The signing secrets in the database are encrypted and SECRET_KEY is not set:"
                    " set it to the one that the other parts have."
                ) from None
            raise OperatorError(
                "The signing secrets in the database are encrypted with another SECRET_KEY:"
                " set SECRET_KEY to the one that was used before (several may stand there, separated by commas)."
            ) from None

    def wants_to_seal(self, stored: str) -> bool:
        """Whether it lies there in the clear and need not, or is sealed with another key than the first."""
        if self.first is None:
            return False
        try:
            self.first.decrypt(stored.removeprefix(SEALED))
        except InvalidToken:
            return True
        return not stored.startswith(SEALED)


IN_THE_CLEAR = Sealer(None)


def open_sealer(settings: Settings) -> Sealer:
    """Raises OperatorError for a key that is too short to be one."""
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
    """32 bytes for this purpose alone, from a key of any form."""
    kdf = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=b"darkroom signing_keys")
    return base64.urlsafe_b64encode(kdf.derive(key.encode()))
