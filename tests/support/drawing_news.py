"""What a worker tells of a drawing, by the worker's own means, where a test needs no drawing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from PIL import Image

from storage.postgres.database import open_pool
from storage.predictions.claim import Claim
from storage.predictions.render import open_renderer
from storage.settings import Settings
from worker.attempts.progress import ProgressReports
from worker.publish.preview import encode_preview


class DrawingNews:
    """Tells of steps and previews of a prediction. Nothing is stored: the claim that it tells of is nobody's."""

    def __init__(self, reports: ProgressReports) -> None:
        self._reports = reports

    def tell(self, prediction_id: str, step: int, steps: int, preview: Image.Image | None = None) -> None:
        claim = Claim({"id": prediction_id, "token_id": None}, uuid4())
        self._reports.report(claim, "", step=step, steps=steps, preview=None if preview is None else lambda: preview)


@contextmanager
def drawing_news(settings: Settings) -> Iterator[DrawingNews]:
    pool = open_pool(settings, application_name="test")
    try:
        with pool.connection() as conn:
            renderer = open_renderer(settings, conn)
        reports = ProgressReports(pool, renderer)
        reports.start()
        try:
            yield DrawingNews(reports)
        finally:
            reports.stop()
    finally:
        pool.close()


def as_webp(image: Image.Image) -> bytes:
    """The preview that is told of that image."""
    webp = encode_preview(image)
    assert webp is not None
    return webp
