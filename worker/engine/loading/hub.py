"""Downloads a pipeline from the hub: the parts that its model_index.json names, in one variant, as safetensors.

Repositories often hold the same weights several times: in one file for other programs, as pickles, for ONNX or Flax, in
float16 beside float32.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from glob import escape
from pathlib import Path
from typing import Any

import structlog

from worker.engine.interface import ModelNotLoaded
from worker.engine.loading.pipeline_index import INDEX, parts_of
from worker.engine.loading.variants import WEIGHTS, variants_of

log = structlog.get_logger(__name__)

# Beside the weights. No code, and no pickles, which can run code when they are loaded.
SETTINGS = (".json", ".txt", ".model", ".jinja")


def download_pipeline(hub_id: str, *, variant: str, without: Collection[str] = ()) -> Path:
    """Download a pipeline, or complete what is in the cache. `without`: parts whose weights stay there; "*": all.

    If the hub doesn't answer, what is in the cache is used. Raises ModelNotLoaded.
    """
    from httpx import HTTPError
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download
    from huggingface_hub.errors import EntryNotFoundError

    log.info("weights.download", hub_id=hub_id)
    try:
        # The operator names the hub id, and what comes is data: `chosen_files` lets no code through.
        index_path = hf_hub_download(hub_id, INDEX)  # nosec B615
        index_file = Path(index_path)
        index = json.loads(index_file.read_text(encoding="utf-8"))
        try:
            listed = HfApi().list_repo_files(hub_id)
        except (HTTPError, OSError) as error:
            log.info("weights.hub_away", hub_id=hub_id, error=type(error).__name__)
            return index_file.parent
        files = chosen_files(hub_id, index, listed, variant=variant, without=without)
        patterns = [escape(file) for file in files]
        folder = snapshot_download(hub_id, allow_patterns=patterns)  # nosec B615
    except (EntryNotFoundError, HTTPError, ValueError, OSError) as error:
        first_line = str(error).strip().partition("\n")[0]
        raise ModelNotLoaded(f"{hub_id} is no folder, and could not be had from the hub: {first_line}") from error
    return Path(folder)


def chosen_files(
    hub_id: str, index: Mapping[str, Any], listed: Sequence[str], *, variant: str, without: Collection[str] = ()
) -> list[str]:
    """Which of a repository's files are needed. `index` is its model_index.json. Raises ModelNotLoaded."""
    parts: dict[str, list[str]] = {part: [] for part in parts_of(index)}
    for file in listed:
        part, _, name = file.partition("/")
        if part in parts and name:
            parts[part].append(name)
    with_weights = {part: names for part, names in parts.items() if "*" not in without and part not in without}
    for part, names in with_weights.items():
        pickles = sorted(name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt")))
        if pickles and not any(name.endswith(WEIGHTS) for name in names):
            raise ModelNotLoaded(
                f"{hub_id} has the weights of its {part} as {pickles[0]} only, a pickle, which may run any code: "
                "convert it with save_pretrained(…, safe_serialization=True), and set `source` to the folder"
            )
    weights = variants_of(hub_id, with_weights, variant).files
    settings = [f"{part}/{name}" for part, names in parts.items() for name in names if name.endswith(SETTINGS)]
    return sorted([INDEX, *settings, *(f"{part}/{name}" for part, names in weights.items() for name in names)])
