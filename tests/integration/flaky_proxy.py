"""A TCP proxy that can be down: connections are cut and refused at once until it is up again."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from urllib.parse import parse_qs, urlsplit


class FlakyProxy:
    """Passes everything to `target` (a URL; Postgres' may name the folder of its socket) while `is_down` is not set."""

    def __init__(self, target: str, *, host: str = "127.0.0.1") -> None:
        self._target = target
        self._listening = socket.create_server((host, 0))
        self._open: set[socket.socket] = set()
        self._stopping = False
        self.is_down = threading.Event()
        self.url = f"http://{host}:{self._listening.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept), threading.Thread(target=self._cut)]

    def __enter__(self) -> FlakyProxy:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopping = True
        self.is_down.set()
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join()
        for ours in list(self._open):
            ours.close()

    def _cut(self) -> None:
        while True:
            self.is_down.wait()
            for ours in list(self._open):
                with suppress(OSError):
                    ours.shutdown(socket.SHUT_RDWR)
            if self._stopping:
                return
            threading.Event().wait(0.02)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            if self.is_down.is_set():
                client.close()
                continue
            server = _connect(self._target)
            self._open |= {client, server}
            for source, sink in ((client, server), (server, client)):
                thread = threading.Thread(target=self._copy, args=(source, sink), daemon=True)
                thread.start()

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        finally:
            for ours in (source, sink):
                self._open.discard(ours)
                with suppress(OSError):
                    ours.shutdown(socket.SHUT_RDWR)
                ours.close()


def _connect(target: str) -> socket.socket:
    parts = urlsplit(target)
    if parts.hostname is not None:
        assert parts.port is not None
        return socket.create_connection((parts.hostname, parts.port))
    asked = parse_qs(parts.query)
    server = socket.socket(socket.AF_UNIX)
    server.connect(f"{asked['host'][0]}/.s.PGSQL.{asked['port'][0]}")
    return server
