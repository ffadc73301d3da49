"""A certificate from an authority of its own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def write_certificates(folder: Path, *, address: str | None = None) -> tuple[Path, Path]:
    """The files with the authority, and with the server's certificate and key: for `address`, or for localhost."""
    key, own_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)

    def builder(name: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        start = x509.CertificateBuilder().issuer_name(issuer).subject_name(name).public_key(public_key)
        start = start.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(hours=1))
        return start.not_valid_after(now + timedelta(days=1))

    root = builder(issuer, key.public_key()).add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
    leaf = builder(subject, own_key.public_key()).add_extension(
        x509.SubjectAlternativeName(
            [x509.DNSName("localhost") if address is None else x509.IPAddress(ip_address(address))]
        ),
        False,
    )
    pem = serialization.Encoding.PEM
    authority, certificate = folder / "authority.pem", folder / "server.pem"
    authority.write_bytes(root.sign(key, hashes.SHA256()).public_bytes(pem))
    private = own_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    certificate.write_bytes(leaf.sign(key, hashes.SHA256()).public_bytes(pem) + private)
    return authority, certificate
