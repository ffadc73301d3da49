"""Finds the files of a model's LoRAs when the model is loaded. Safetensors only: other formats can run code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import structlog

from storage.catalog import Model
from worker.engine.interface import ModelNotLoaded
from worker.engine.loading.weights import check_whole, is_path

log = structlog.get_logger(__name__)


def find_loras(model: Model) -> Mapping[str, Path]:
    """Name → file, for all LoRAs of a catalog entry; hub ids are downloaded. Raises ModelNotLoaded."""
    return {name: _find(name, entry.source) for name, entry in model.loras.items()}


def _find(name: str, source: str) -> Path:
    file = Path(source).expanduser()
    if not file.is_file():
        if is_path(source) or source.endswith(".safetensors"):
            raise ModelNotLoaded(f'there is no file {source}: check the LoRA "{name}" in models.toml')
        file = _download(name, source)
    if file.suffix != ".safetensors":
        raise ModelNotLoaded(f'the LoRA "{name}" is {file.name}: only .safetensors files are read')
    check_whole(file)
    return file


def _download(name: str, hub_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    log.info("lora.download", hub_id=hub_id)
    try:
        # The operator names the hub id, and what comes is data.
        folder = snapshot_download(hub_id, allow_patterns=["*.safetensors"])  # nosec B615
    except (HfHubHTTPError, LocalEntryNotFoundError, ValueError, OSError) as error:
        first_line = str(error).strip().partition("\n")[0]
        raise ModelNotLoaded(f'the LoRA "{name}": {hub_id} could not be had from the hub: {first_line}') from error
    files = sorted(Path(folder).glob("*.safetensors"))
    if len(files) != 1:
        found = ", ".join(file.name for file in files) or "none"
        raise ModelNotLoaded(f'the LoRA "{name}": {hub_id} needs to hold one .safetensors file; it has {found}')
    return files[0]
