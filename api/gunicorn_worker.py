"""Gunicorn's worker with threads, with threads of our own."""

from __future__ import annotations

from gunicorn.workers.gthread import ThreadWorker

from api.settings import ApiSettings
from api.threads import RequestThreads


class ApiWorker(ThreadWorker):  # type: ignore[misc] # gunicorn has no types
    """`threads` of its configuration is the most there may be."""

    def get_thread_pool(self) -> RequestThreads:
        return RequestThreads(ApiSettings().api_busy_threads, self.cfg.threads)
