"""A hub with one repository, for downloads: Hugging Face's own server can't be had in tests.

It answers what huggingface_hub asks for: the repository's files, and each file with the headers that it checks.
"""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Serves a folder as the repository `hub_id`; `downloaded` are the files whose bytes were sent."""

    def __init__(self, hub_id: str, folder: Path) -> None:
        self.downloaded: set[str] = set()
        downloaded = self.downloaded

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self._answer(with_body=False)

            def do_GET(self) -> None:
                self._answer(with_body=True)

            def _answer(self, *, with_body: bool) -> None:
                path = self.path.partition("?")[0]
                if path.startswith(f"/api/models/{hub_id}"):
                    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
                    names = {str(file.relative_to(folder)): file.stat().st_size for file in files}
                    answer: object = {"id": hub_id, "sha": COMMIT, "siblings": [{"rfilename": name} for name in names]}
                    if "/tree/" in path:
                        answer = [
                            {"type": "file", "path": name, "size": size, "oid": COMMIT} for name, size in names.items()
                        ]
                    self._send(json.dumps(answer).encode())
                    return
                name = path.removeprefix(f"/{hub_id}/resolve/").partition("/")[2]
                file = folder / name
                if not path.startswith(f"/{hub_id}/resolve/") or not file.is_file():
                    self._send(b"", status=404, more={"X-Error-Code": "EntryNotFound"})
                    return
                if with_body:
                    downloaded.add(name)
                content = file.read_bytes()
                etag = f'"{hashlib.sha256(content).hexdigest()}"'
                self._send(content, more={"ETag": etag, "X-Repo-Commit": COMMIT}, with_body=with_body)

            def _send(
                self, content: bytes, *, status: int = 200, more: dict[str, str] | None = None, with_body: bool = True
            ) -> None:
                self.send_response(status)
                for key, value in ({"Content-Length": str(len(content))} | (more or {})).items():
                    self.send_header(key, value)
                self.end_headers()
                if with_body:
                    self.wfile.write(content)

            def log_message(self, *args: object) -> None:
                """Nothing is logged."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Hub:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
