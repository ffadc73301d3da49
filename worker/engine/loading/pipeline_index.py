"""model_index.json, which names the class of a pipeline and its parts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from worker.engine.interface import ModelNotLoaded

INDEX = "model_index.json"


def read_index(folder: Path) -> Mapping[str, Any]:
    """Read a folder's model_index.json. Raises ModelNotLoaded."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        str(index["_class_name"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise ModelNotLoaded(f"{folder} is no diffusers folder: {INDEX} can't be read ({error})") from error
    return dict(index)


def parts_of(index: Mapping[str, Any]) -> list[str]:
    """The parts of a pipeline: folders beside its index."""
    return [
        part
        for part, kind in index.items()
        if not part.startswith("_") and isinstance(kind, list) and kind and kind[0] is not None
    ]
