"""The Postgres of the tests behind TLS, with a certificate for `localhost` from an authority of its own."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.support.certificates import write_certificates
from tests.support.receivers import raw_server

SSL_REQUEST_BYTES = 8  # what a client sends first: may I speak TLS?


@contextmanager
def postgres_over_tls(socket_path: Path, folder: Path) -> Iterator[tuple[int, Path]]:
    """The port, and the file with the authority."""
    authority, certificate = write_certificates(folder)
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
