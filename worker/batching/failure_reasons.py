"""The messages that clients get when a drawing fails."""

from __future__ import annotations

import structlog

from storage.workers.step_costs import load_of
from worker.attempts.attempt import Attempt
from worker.batching.step_costs import StepCosts
from worker.engine import DrawingFailed

log = structlog.get_logger(__name__)


def reason_of(error: Exception) -> str:
    """The message of an error that broke a drawing. An error that no engine raises on purpose is logged as well."""
    if isinstance(error, DrawingFailed):
        return str(error)
    log.error("batch.drawing_failed", exc_info=error)
    return f"Drawing failed: {type(error).__name__}: {error}"


def too_large(attempt: Attempt, costs: StepCosts) -> str:
    """The message for a drawing that runs out of memory alone, with the largest size that worked here."""
    asked = attempt.parameters
    fits = costs.largest_image_alone(load_of(asked))
    size = f"{asked.width}x{asked.height}"
    if asked.num_outputs > 1:
        size = f"{asked.num_outputs} of {size}"
    advice = (
        f"the largest that was drawn here so far has {fits.pixels // fits.images} pixels ({fits.images} at a time)"
        if fits
        else "ask for a smaller size or fewer num_outputs"
    )
    return f"The device has not enough memory for {size}: {advice}."
