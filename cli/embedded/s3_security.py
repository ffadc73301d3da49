"""The certificates and keys with which the parts of the embedded S3 server authenticate each other.

SeaweedFS is several servers in one process, and each listens on the loopback interface, where every user and every
program of the machine can connect. Without this file they trust every client: one GET deletes a bucket, and
`weed shell` prints the S3 keys. With it, all ports except the S3 port require a client certificate (mutual TLS, for
HTTP and for gRPC). The only client certificate is in a folder that no other user can read. The JWT keys are a second
line of defence.
"""

from __future__ import annotations

import datetime
import ipaddress
import secrets
import ssl
from pathlib import Path

from cli.private_files import make_private_folder, write_private

PARTS = ("master", "volume", "filer", "s3", "client")
SERVED_OVER_HTTP = ("master", "volume", "filer")  # S3's own port is for others, who sign their requests
JWT_KEYS = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")
# The certificates are made again at each start. They are valid for long, so that they don't expire in a server that is
# never restarted.
VALID_FOR = datetime.timedelta(days=3650)
CLOCK_MAY_BE_OFF = datetime.timedelta(days=1)


class S3Security:
    """`security.toml` in the server's folder, where it looks first, and the files that it names."""

    def __init__(self, folder: Path) -> None:
        self._settings = folder / "security.toml"
        self._folder = folder / "tls"
        self._authority = self._folder / "ca.pem"
        self._certificate = self._folder / "cert.pem"
        self._key = self._folder / "key.pem"
        self._made: tuple[bytes, bytes, bytes] | None = None

    @property
    def authority(self) -> Path:
        """The certificate authority, by which clients of the S3 port know the server."""
        return self._authority

    @property
    def s3_options(self) -> list[str]:
        """What makes the S3 port speak TLS."""
        return [f"-s3.cert.file={self._certificate}", f"-s3.key.file={self._key}"]

    def write(self) -> None:
        """Make new certificates and keys; what knew those of an earlier object is shut out.

        They stay the same when this object's server is started again: clients that run know them.
        """
        make_private_folder(self._folder)
        if self._made is None:
            self._made = _make_certificates()
        authority, certificate, key = self._made
        write_private(self._authority, authority)
        write_private(self._certificate, certificate)
        write_private(self._key, key)
        write_private(self._settings, self._toml().encode())

    def client_context(self) -> ssl.SSLContext:
        """For our own calls to the parts."""
        context = ssl.create_default_context(cafile=str(self._authority))
        context.load_cert_chain(self._certificate, self._key)
        return context

    def _toml(self) -> str:
        files = f"cert = {_quoted(self._certificate)}\nkey = {_quoted(self._key)}\n"
        authority = f"ca = {_quoted(self._authority)}\n"
        sections = [f'[{name}]\nkey = "{secrets.token_hex(32)}"\n' for name in JWT_KEYS]
        sections += [f"[grpc]\n{authority}", *(f"[grpc.{part}]\n{files}" for part in PARTS)]
        sections += [f"[https.{part}]\n{authority}{files}" for part in SERVED_OVER_HTTP]
        sections += [f"[https.client]\nenabled = true\n{authority}{files}"]
        return "\n".join(sections)


def _quoted(path: Path) -> str:
    text = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def _make_certificates() -> tuple[bytes, bytes, bytes]:
    """PEM: a certificate authority, whose key is forgotten at once, one certificate for all parts, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def named(name: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])

    def certificate(name: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(named(name))
            .issuer_name(named("darkroom authority"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_MAY_BE_OFF)
            .not_valid_after(now + VALID_FOR)
        )

    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = (
        certificate("darkroom authority", authority_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")])
    both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    leaf = (
        certificate("darkroom s3", key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .add_extension(here, critical=False)
        .add_extension(both, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return authority.public_bytes(pem), leaf.public_bytes(pem), private
