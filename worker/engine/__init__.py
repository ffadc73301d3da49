"""Engines: they draw. This is the only folder that imports torch, and it does so only when an engine is loaded."""

from worker.engine.interface import (
    BlankImages,
    DeviceLost,
    Drawing,
    DrawingFailed,
    Engine,
    Memory,
    ModelNotLoaded,
    OutOfMemory,
    Pictures,
)
from worker.engine.loading.load import load_engine

__all__ = [
    "BlankImages",
    "DeviceLost",
    "Drawing",
    "DrawingFailed",
    "Engine",
    "Memory",
    "ModelNotLoaded",
    "OutOfMemory",
    "Pictures",
    "load_engine",
]
