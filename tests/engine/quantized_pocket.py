"""The pocket model with weights of fewer bits, and what it draws."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from storage.catalog import DeviceSettings, Model
from storage.predictions.parameters import Parameters
from tests.conftest import REPOSITORY
from worker.engine import load_engine

POCKET = REPOSITORY / "models" / "pocket"
ASKED = Parameters("a red circle on a blue background", 128, 128, 8, 0.0, seed=1)


def pocket(source: Path = POCKET, **device: Any) -> Model:
    return Model(name="test/pocket", source=str(source), device=DeviceSettings(**device))


def draw(model: Model) -> tuple[Any, np.ndarray[Any, Any]]:
    """The engine's transformer and a picture of its, (height, width, 3)."""
    engine: Any = load_engine(model, device="cpu")
    drawing = engine.begin(ASKED)
    while drawing.steps_done < drawing.steps:
        engine.step([drawing], lambda: None)
    return engine._pipeline.transformer, np.asarray(engine.decode(drawing)()[0]).astype(float)
