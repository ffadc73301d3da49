"""Imports what a worker needs to load models, without loading one and without using a device.

The warm parent does this once; the workers that are forked from it find everything imported.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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
# Imported by diffusers where it is installed; it asks the GPU what it can do, which starts CUDA.
STARTS_CUDA = "torchao"


def import_for(models: Iterable[Model]) -> None:
    """Import the engines of these models, and the classes that their pipelines consist of.

    Models whose weights aren't on this machine yet count with torch and diffusers alone. Raises ImportError, OSError.
    """
    models = list(models)
    drawing = [model for model in models if model.engine != "blank"]
    if len(drawing) < len(models):
        importlib.import_module("worker.engine.blank")
    if not drawing:
        return
    if not any(model.device.quantization or model.device.gguf for model in drawing):
        sys.modules.setdefault(STARTS_CUDA, None)  # type: ignore[arg-type]  # Python's own mark for "can't be imported"
    with _without_asking_the_driver():
        for name in (*LIBRARIES, *LOADING):
            importlib.import_module(name)
        for model in drawing:
            index = _index_of(Path(model.config if model.is_single_file else model.source).expanduser())
            engine_for(str(index.get("_class_name"))).load()
            for part in [["diffusers", index.get("_class_name")], *index.values()]:
                _import_class(part)


@contextmanager
def _without_asking_the_driver() -> Iterator[None]:
    """Let `torch.cuda.is_available` look for the drivers' files only.

    diffusers calls it when it is imported. A process that has asked the driver has opened the GPU, and its children may
    not be able to use it.
    """
    import torch

    asks = torch.cuda.is_available
    torch.cuda.is_available = _has_gpu_files
    try:
        yield
    finally:
        torch.cuda.is_available = asks


def _has_gpu_files() -> bool:
    """Whether this torch is for GPUs, and a driver offers one to this process."""
    import torch

    is_hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1")
    is_there = any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/kfd").exists() or Path("/dev/dxg").exists()
    return torch.cuda._is_compiled() and is_there and not is_hidden


def _index_of(folder: Path) -> dict[str, Any]:
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not here, or damaged: loading it says so
        return {}
    return index if isinstance(index, dict) else {}


def _import_class(part: object) -> None:
    if isinstance(part, list) and len(part) == 2 and part[0] in LIBRARIES and isinstance(part[1], str):
        getattr(importlib.import_module(part[0]), part[1], None)  # both libraries import a class when it is asked for
