"""What draws. The only folder that imports torch, and only when an engine is loaded."""

from worker.engine.interface import (
    BlankImages,
    DeviceLost,
    Drawing,
    DrawingFailed,
    Engine,
    Memory,
    ModelNotLoaded,
    OutOfMemory,
    load_engine,
)

__all__ = [
    "BlankImages",
    "DeviceLost",
    "Drawing",
    "DrawingFailed",
    "Engine",
    "Memory",
    "ModelNotLoaded",
    "OutOfMemory",
    "load_engine",
]
