"""What `darkroom up` says at its start of models whose weights are not there: before somebody waits for a picture."""

from __future__ import annotations

from pathlib import Path

from storage.catalog import Catalog
from worker.engine import ModelNotLoaded
from worker.engine.weights import check_weights, is_path, pipeline_class_of


def missing_weights(catalog: Catalog) -> list[str]:
    """A line for each model that can't be loaded from its folder. Hub ids are not looked up."""
    lines = []
    for model in catalog.models.values():
        if model.engine != "diffusers":
            continue
        folder = Path(model.source).expanduser()
        problem = None
        if not folder.is_dir():
            if is_path(model.source):
                problem = f"there is no folder {model.source}: check `source` in models.toml"
        else:
            try:
                pipeline_class_of(folder)
                check_weights(folder)
            except ModelNotLoaded as error:
                problem = str(error)
            except OSError as error:
                problem = f"{folder} can't be read: {error.strerror}"
        if model.device.gguf and not Path(model.device.gguf).is_file():
            problem = f"there is no file {model.device.gguf}: check `gguf` in models.toml"
        if problem is not None:
            lines.append(f"{model.name} can't be drawn: {problem}")
    return lines
