"""Which engine draws with which pipeline of diffusers. To add an engine, add a line to the table."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from worker.engine.interface import ModelNotLoaded


@dataclass(frozen=True)
class EngineClass:
    """An engine's class by name: its module imports torch, so it is imported only when a model is loaded."""

    module: str
    name: str
    refused_dtypes: Mapping[str, str] = field(default_factory=dict)  # dtype → why the pipeline can't use it

    def check_dtype(self, dtype: str) -> None:
        """Raises ModelNotLoaded when the pipeline can't draw in this dtype."""
        if dtype in self.refused_dtypes:
            raise ModelNotLoaded(self.refused_dtypes[dtype])

    def load(self) -> Any:
        """Import the class. It takes the pipeline, `device` and `attention`."""
        return getattr(importlib.import_module(self.module), self.name)


# By the name of the pipeline's class, as it stands in model_index.json.
ENGINES = {
    "ZImagePipeline": EngineClass(
        "worker.engine.zimage",
        "ZImageEngine",
        refused_dtypes={"float16": "Z-Image gives black images in float16: set dtype to bfloat16 or float32"},
    ),
}
ANY_OTHER_PIPELINE = EngineClass("worker.engine.pipeline", "PipelineEngine")


def engine_for(pipeline_class: str) -> EngineClass:
    """Return the engine for a pipeline. Every pipeline has one."""
    return ENGINES.get(pipeline_class, ANY_OTHER_PIPELINE)
