"""Imports what a worker needs to load models, without loading one and without using a device.

The warm parent does this once; the workers that are forked from it find everything imported.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from storage.catalog import Model
from worker.engine.engines import engine_for

LIBRARIES = ("diffusers", "transformers")  # the only ones whose classes are imported because a file names them
# What the first load imports besides the classes of the model.
LOADING = (
    "accelerate",
    "safetensors.torch",
    "tokenizers",
    "worker.engine.loading.placement",
    "worker.engine.loading.quantization",
)


def import_for(models: Iterable[Model]) -> None:
    """Import the engines of these models, and the classes that their pipelines consist of.

    Models whose weights aren't on this machine yet count with torch and diffusers alone. Raises ImportError, OSError.
    """
    for model in models:
        if model.engine == "blank":
            importlib.import_module("worker.engine.blank")
            continue
        # torch asks the driver's library (NVML) whether there is a GPU; the CUDA runtime can't be used after a fork.
        os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
        for name in (*LIBRARIES, "torch", *LOADING):
            importlib.import_module(name)
        index = _index_of(Path(model.config if model.is_single_file else model.source).expanduser())
        engine_for(str(index.get("_class_name"))).load()
        for part in [["diffusers", index.get("_class_name")], *index.values()]:
            _import_class(part)


def _index_of(folder: Path) -> dict[str, Any]:
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not here, or damaged: loading it says so
        return {}
    return index if isinstance(index, dict) else {}


def _import_class(part: object) -> None:
    if isinstance(part, list) and len(part) == 2 and part[0] in LIBRARIES and isinstance(part[1], str):
        getattr(importlib.import_module(part[0]), part[1], None)  # both libraries import a class when it is asked for
