"""The Postgres of the tests behind TLS, with a certificate for `localhost` from an authority of its own."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.receivers import raw_server

SSL_REQUEST_BYTES = 8  # what a client sends first: may I speak TLS?


@contextmanager
def postgres_over_tls(socket_path: Path, folder: Path) -> Iterator[tuple[int, Path]]:
    """The port, and the file with the authority."""
    authority, certificate = _write_certificates(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def handle(client: Any, _: threading.Event) -> None:
        client.recv(SSL_REQUEST_BYTES, socket.MSG_WAITALL)
        client.sendall(b"S")
        with suppress(OSError), ExitStack() as stack:
            inside = stack.enter_context(context.wrap_socket(client, server_side=True))
            server = stack.enter_context(socket.socket(socket.AF_UNIX))
            server.connect(str(socket_path))
            back = threading.Thread(target=_copy, args=(server, inside), daemon=True)
            back.start()
            _copy(inside, server)
            server.shutdown(socket.SHUT_RDWR)
            back.join()

    with raw_server(handle) as port:
        yield port, authority


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)


def _write_certificates(folder: Path) -> tuple[Path, Path]:
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
        x509.SubjectAlternativeName([x509.DNSName("localhost")]), False
    )
    pem = serialization.Encoding.PEM
    authority, certificate = folder / "authority.pem", folder / "server.pem"
    authority.write_bytes(root.sign(key, hashes.SHA256()).public_bytes(pem))
    private = own_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    certificate.write_bytes(leaf.sign(key, hashes.SHA256()).public_bytes(pem) + private)
    return authority, certificate
