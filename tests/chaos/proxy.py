"""A network before a Postgres that can be cut and frozen: TCP on loopback, to the server's socket."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from pathlib import Path

CHUNK_BYTES = 65536
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class PostgresProxy:
    """Forwards bytes. `cut` resets what is connected and lets nobody in; `freeze` delivers nothing more."""

    def __init__(self, server_socket: Path) -> None:
        self._server_socket = server_socket
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._flows = threading.Event()
        self._flows.set()
        self._is_cut = False
        self._closed = False
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._accept, daemon=True, name="proxy")
        self._thread.start()

    @property
    def url(self) -> str:
        port = self._listener.getsockname()[1]
        return f"postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=disable&gssencmode=disable"

    def cut(self) -> None:
        self._is_cut = True
        self._reset_all()

    def point_to(self, server_socket: Path) -> None:
        """Where new connections lead; those that exist stay, as they do when an address changes in the DNS."""
        self._server_socket = server_socket

    def freeze(self) -> None:
        self._flows.clear()

    def heal(self) -> None:
        """Let everything through again: what was frozen arrives late, what was cut has to connect anew."""
        self._is_cut = False
        self._flows.set()

    def close(self) -> None:
        self._closed = True
        self._flows.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._reset_all()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with self._lock:
            self._sockets.add(client)
        if self._is_cut:
            self._reset(client)
            return
        server = socket.socket(socket.AF_UNIX)
        try:
            self._flows.wait()
            server.connect(str(self._server_socket))
        except OSError:
            self._reset(client)
            server.close()
            return
        with self._lock:
            self._sockets.add(server)
        if self._is_cut:  # since we looked
            self._reset(client)
            self._reset(server)
            return
        back = threading.Thread(target=self._pump, args=(server, client), daemon=True)
        back.start()
        self._pump(client, server)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK_BYTES):
                self._flows.wait()
                sink.sendall(data)
        self._reset(source)
        self._reset(sink)

    def _reset_all(self) -> None:
        with self._lock:
            sockets = list(self._sockets)
        for each in sockets:
            self._reset(each)

    def _reset(self, each: socket.socket) -> None:
        with self._lock:
            self._sockets.discard(each)
        with contextlib.suppress(OSError):
            if each.family == socket.AF_INET:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            each.shutdown(socket.SHUT_RDWR)
        each.close()
