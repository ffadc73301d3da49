"""Run as a program, as another user of the machine: ask ports and sockets things, and print what came back as JSON.

Nothing but the standard library, since that user may read nothing of ours. Stdin: `uid` to become (or null), `ports`,
`sockets`, `requests` ([method, path]). Stdout: a list of [where, how, request, answer].
"""

import codecs
import json
import os
import socket
import ssl
import sys
from pathlib import Path
from typing import Any

TIMEOUT_S = 3.0
LARGEST_ANSWER = 100_000
HTTP_2_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"  # how gRPC begins


def main() -> None:
    asked = json.load(sys.stdin)
    own = asked["certificate"]
    contexts: dict[str, ssl.SSLContext | None] = {"plain": None}
    for how in ("tls", "tls-own-certificate"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["h2", "http/1.1"])
        if how != "tls":
            context.load_cert_chain(own)
        contexts[how] = context
    for codec in ("latin-1", "idna"):
        codecs.lookup(codec)  # loaded now: that user may not read Python's own files either
    if asked["uid"] is not None:
        os.setgroups([])
        os.setgid(asked["uid"])
        os.setuid(asked["uid"])
    answers = []
    for where in [*asked["ports"], *asked["sockets"]]:
        for how, maybe in contexts.items():
            requests = asked["requests"] if how == "plain" else asked["requests"][:: len(asked["requests"]) // 20]
            for method, path in requests:
                body = b"{}" if method in ("POST", "PUT") else b""
                head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
                request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
                answers.append([where, how, f"{method} {path}", ask(where, maybe, request)])
            answers.append([where, how, "HTTP/2", ask(where, maybe, HTTP_2_HELLO)])
    json.dump(answers, sys.stdout)


def ask(where: Any, context: ssl.SSLContext | None, request: bytes) -> str:
    """All that was answered; what went wrong counts as no answer."""
    answer = b""
    try:
        with connect(where) as plain:
            stream = plain if context is None else context.wrap_socket(plain)
            stream.sendall(request)
            while len(answer) < LARGEST_ANSWER and (more := stream.recv(65536)):
                answer += more
    except OSError:
        pass
    return answer.decode("latin-1")


def connect(where: Any) -> socket.socket:
    if isinstance(where, int):
        return socket.create_connection(("127.0.0.1", where), timeout=TIMEOUT_S)
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(TIMEOUT_S)
    try:
        client.connect(str(Path(where)))
    except OSError:
        client.close()
        raise
    return client


if __name__ == "__main__":
    main()
