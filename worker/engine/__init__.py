"""What draws. The only folder that imports torch, and only when an engine is loaded."""

from worker.engine.interface import Drawing, DrawingFailed, Engine, ModelNotLoaded, make_engine

__all__ = ["Drawing", "DrawingFailed", "Engine", "ModelNotLoaded", "make_engine"]
