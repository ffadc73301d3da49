"""Finds a model's weights: a local folder, or a hub id that is downloaded before anything is claimed."""

from __future__ import annotations

import json
from pathlib import Path

import structlog

from worker.engine.interface import ModelNotLoaded

log = structlog.get_logger(__name__)

# Safetensors only: the other formats are pickles, which can run code when they are loaded.
PATTERNS = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"]
TRANSFORMER = "transformer"


def find_weights(source: str, *, without_transformer: bool = False) -> Path:
    """The local folder of a diffusers pipeline. Raises ModelNotLoaded.

    A source that looks like a path (/…, ./…, ../…, ~…) is one. Anything else that is not a folder is a hub id.
    `without_transformer` skips the transformer's weights, which are most of the download.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if is_path(source):
        raise ModelNotLoaded(f"there is no folder {source}: check `source` in models.toml")
    return _download(source, [f"{TRANSFORMER}/*.safetensors"] if without_transformer else [])


def is_path(source: str) -> bool:
    """Whether it names a folder, which must be there, and can't be a hub id."""
    return source.startswith(("/", "./", "../", "~"))


def pipeline_class_of(folder: Path) -> str:
    """The name of the diffusers class that a folder was saved from. Raises ModelNotLoaded."""
    index = folder / "model_index.json"
    try:
        name = json.loads(index.read_text(encoding="utf-8"))["_class_name"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise ModelNotLoaded(f"{folder} is no diffusers folder: {index.name} can't be read ({error})") from error
    return str(name)


def weight_files(folder: Path) -> list[Path]:
    """All weight files of a pipeline, sorted by part."""
    return sorted(folder.glob("*/*.safetensors"))


def check_weights(folder: Path) -> None:
    """Check the weights before torch is imported, which takes seconds. Raises ModelNotLoaded.

    Each part of the pipeline must have its weights as safetensors: pickles can run code.
    """
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    for part, kind in index.items():
        if part.startswith("_") or not isinstance(kind, list) or kind[0] is None:
            continue
        if not (folder / part).is_dir():
            raise ModelNotLoaded(f"{folder} has no {part}: the download is not complete, or the copy is not")
        files = [file.name for file in (folder / part).iterdir()]
        pickles = [name for name in files if name.endswith((".bin", ".pt", ".pth", ".ckpt"))]
        if pickles and not any(name.endswith(".safetensors") for name in files):
            raise ModelNotLoaded(
                f"{folder / part} has its weights as {pickles[0]} only, a pickle, which may run any code: "
                "convert it with save_pretrained(…, safe_serialization=True)"
            )
    for file in weight_files(folder):
        check_whole(file)


def check_whole(file: Path) -> None:
    """Raises ModelNotLoaded if the file is shorter than its header says.

    The format (https://github.com/huggingface/safetensors): the length of the header in 8 bytes, the header in JSON
    with each tensor's offsets, then the tensors.
    """
    size = file.stat().st_size
    with file.open("rb") as opened:
        header_bytes = int.from_bytes(opened.read(8), "little")
        text = opened.read(header_bytes) if header_bytes <= size - 8 else b""
    try:
        header = json.loads(text)
        ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise ModelNotLoaded(f"{file} is damaged, or cut short after {size} bytes: its header can't be read") from None
    whole = 8 + header_bytes + max(ends, default=0)
    if size < whole:
        raise ModelNotLoaded(f"{file} is cut short: it has {size} bytes of {whole}")


def _download(hub_id: str, left_out: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    log.info("weights.download", hub_id=hub_id)
    try:
        # The operator names the hub id, and what comes is data: PATTERNS let no code through.
        folder = snapshot_download(hub_id, allow_patterns=PATTERNS, ignore_patterns=left_out)  # nosec B615
    except (HfHubHTTPError, LocalEntryNotFoundError, ValueError, OSError) as error:
        first_line = str(error).strip().partition("\n")[0]
        raise ModelNotLoaded(f"{hub_id} is no folder, and could not be had from the hub: {first_line}") from error
    return Path(folder)
