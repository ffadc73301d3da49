"""At its start, `darkroom up` warns about models with missing weights, before a user waits for a picture."""

from __future__ import annotations

from pathlib import Path

from storage.catalog import Catalog, Model
from worker.engine import ModelNotLoaded
from worker.engine.loading.pipeline_index import read_index
from worker.engine.loading.single_file import find_single_file
from worker.engine.loading.weights import check_weights, is_path


def missing_weights(catalog: Catalog) -> list[str]:
    """A line for each model that can't be loaded from its folder or file. Hub ids are not looked up."""
    lines = []
    for model in catalog.models.values():
        if model.engine != "diffusers":
            continue
        problem = _problem_of(model)
        if model.device.gguf and not Path(model.device.gguf).is_file():
            problem = f"there is no file {model.device.gguf}: check `gguf` in models.toml"
        if problem is not None:
            lines.append(f"{model.name} can't be drawn: {problem}")
    return lines


def _problem_of(model: Model) -> str | None:
    folder = Path(model.source).expanduser()
    try:
        if model.is_single_file:
            find_single_file(model.source)
        elif folder.is_dir():
            check_weights(folder, model.variant)
        elif is_path(model.source):
            return f"there is no folder {model.source}: check `source` in models.toml"
        if is_path(model.config):
            read_index(Path(model.config).expanduser())
    except ModelNotLoaded as error:
        return str(error)
    except OSError as error:
        return f"{folder} can't be read: {error.strerror}"
    return None
