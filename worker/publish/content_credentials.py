"""Signs image files with C2PA manifests, "content credentials", if a certificate is configured.

https://spec.c2pa.org. The manifest says that a model made the image, which one, and when it was signed by whom.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from storage.errors import OperatorError
from worker.publish.provenance import MADE_BY_A_MODEL
from worker.settings import WorkerSettings

CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}


@dataclass(frozen=True)
class ContentCredentials:
    """A certificate chain and its key, PEM. Threads may share it."""

    algorithm: str  # as C2PA names it: es256, ps256, ed25519, …
    certificates: str
    key: str

    def sign(self, body: bytes, content_type: str, *, model: str, model_version: str) -> bytes:
        """The same file with a signed manifest inside; the pixels stay as they are. Raises c2pa.C2paError."""
        import c2pa

        info = c2pa.C2paSignerInfo(self.algorithm.encode(), self.certificates.encode(), self.key.encode(), None)
        signed = io.BytesIO()
        # A signer for each file: c2pa doesn't say whether threads may share one, and a new one takes no time.
        with (
            c2pa.Signer.from_info(info) as signer,
            c2pa.Builder(json.dumps(manifest(model, model_version))) as builder,
        ):
            builder.sign(signer, content_type, io.BytesIO(body), signed)
        return signed.getvalue()


def open_credentials(settings: WorkerSettings) -> ContentCredentials | None:
    """What C2PA_CERT and C2PA_KEY name; None if they are not set.

    Raises OperatorError unless a small picture could be signed with them.
    """
    if settings.c2pa_cert is None and settings.c2pa_key is None:
        return None
    if settings.c2pa_cert is None or settings.c2pa_key is None:
        raise OperatorError("C2PA_CERT and C2PA_KEY need each other: set both, or neither.")
    try:
        import c2pa  # noqa: F401 (to say at the start that it is missing)
    except ImportError:
        raise OperatorError("C2PA_CERT needs c2pa-python: `pip install -c constraints.txt c2pa-python`.") from None
    certificates, key = _read("C2PA_CERT", settings.c2pa_cert), _read("C2PA_KEY", settings.c2pa_key)
    credentials = ContentCredentials(_algorithm_of(key, settings.c2pa_key), certificates, key)
    _try(credentials)
    return credentials


def manifest(model: str, model_version: str) -> dict[str, Any]:
    """A manifest definition, as c2pa's builder takes it."""
    created = {
        "action": "c2pa.created",
        "digitalSourceType": MADE_BY_A_MODEL,
        "softwareAgent": {"name": model, "version": model_version},
    }
    return {
        "claim_generator_info": [{"name": "Darkroom", "version": _release()}],
        "assertions": [{"label": "c2pa.actions", "data": {"actions": [created]}}],
    }


@cache
def _release() -> str:
    return version("darkroom")


def _read(setting: str, path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise OperatorError(f"{setting}: {path} can't be read as a PEM file: {error}.") from None


def _algorithm_of(key: str, path: Path) -> str:
    try:
        found = load_pem_private_key(key.encode(), password=None)
    except (ValueError, TypeError) as error:  # TypeError: it needs a password
        raise OperatorError(
            f"C2PA_KEY: {path} holds no private key without a password (PEM, PKCS 8): {error}."
        ) from None
    if isinstance(found, ec.EllipticCurvePrivateKey) and found.curve.name in CURVES:
        return CURVES[found.curve.name]
    if isinstance(found, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(found, rsa.RSAPrivateKey):
        return "ps256"
    raise OperatorError(f"C2PA_KEY: {path}: C2PA takes P-256, P-384, P-521, Ed25519 and RSA keys.")


def _try(credentials: ContentCredentials) -> None:
    import c2pa
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, "PNG")
    try:
        credentials.sign(buffer.getvalue(), "image/png", model="test", model_version="1")
    except c2pa.C2paError as error:
        raise OperatorError(f"Nothing can be signed with C2PA_CERT and C2PA_KEY: {error}.") from None
