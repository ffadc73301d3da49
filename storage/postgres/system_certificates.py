"""`sslrootcert=system` in a DATABASE_URL: the file with this machine's certificate authorities.

libpq asks OpenSSL for the system's. The OpenSSL in psycopg's wheel looks in a folder that exists nowhere, and every
certificate is refused then.
"""

from __future__ import annotations

import os
from pathlib import Path

# Debian, Ubuntu, Alpine; Fedora, RHEL; openSUSE; macOS, FreeBSD.
BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


def system_certificates() -> dict[str, str]:
    """Options of libpq that come to the same. None of them if SSL_CERT_FILE names a file, or there is none here."""
    if "SSL_CERT_FILE" in os.environ:  # OpenSSL reads it by itself
        return {}
    bundle = next((path for path in BUNDLES if Path(path).is_file()), None)
    return {} if bundle is None else {"sslrootcert": bundle, "sslmode": "verify-full"}
