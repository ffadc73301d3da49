"""Gunicorn's worker with threads, with threads of our own."""

from __future__ import annotations

from typing import Any

from gunicorn.workers.gthread import ThreadWorker

from api.server.threads import RequestThreads, expect_to_sleep
from api.settings import ApiSettings


class ApiWorker(ThreadWorker):  # type: ignore[misc] # gunicorn has no types
    """`threads` of its configuration is the most there may be."""

    def get_thread_pool(self) -> RequestThreads:
        return RequestThreads(ApiSettings().api_busy_threads, self.cfg.threads)

    def handle(self, conn: Any) -> Any:
        """Answer one request; a connection that ends with it is closed here.

        Gunicorn 27 would close it in its main thread, which waits for up to 2 s until the client has closed its side,
        and accepts nobody meanwhile.
        """
        goes_on = super().handle(conn)
        if not goes_on:
            expect_to_sleep()
            conn.close(graceful=True)
            conn.close = _nothing_is_left_to_close
        return goes_on


def _nothing_is_left_to_close(graceful: bool = False) -> None: ...
