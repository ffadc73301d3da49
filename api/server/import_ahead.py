"""Imports of the API before gunicorn forks, so that its two processes share the memory that the imports take."""

from __future__ import annotations

import gc
import importlib

from storage.s3.bucket import read_service_description

MODULES = ("api.app", "api.server.worker", "api.server.gunicorn_log")


def import_ahead() -> None:
    """Call it while there is one thread. It opens nothing: connections and threads don't survive a fork."""
    read_service_description()  # first, so that the imports can use the memory that it needs for a moment
    for name in MODULES:
        importlib.import_module(name)
    # The garbage collector leaves these objects alone from now on. Its marks would make each process copy them.
    gc.collect()
    gc.freeze()
