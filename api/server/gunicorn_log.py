"""Gunicorn's own log lines, in the format of all others."""

from __future__ import annotations

import logging
from typing import Any

from gunicorn.glogging import Logger

from api.settings import ApiSettings
from storage import logs


class GunicornLog(Logger):  # type: ignore[misc] # gunicorn has no types
    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        settings = ApiSettings()
        logs.configure("api", log_format=settings.log_format, level=settings.log_level)
        self.error_log.handlers.clear()
        self.error_log.propagate = True
        self.error_log.setLevel(logging.NOTSET)
