"""Finds a model's weights: a local folder, or a hub id that is downloaded before anything is claimed."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from worker.engine.interface import ModelNotLoaded
from worker.engine.loading.hub import download_pipeline
from worker.engine.loading.pipeline_index import parts_of, read_index
from worker.engine.loading.variants import WEIGHTS, Variants, variants_of

TRANSFORMER = "transformer"


def find_weights(source: str, *, variant: str = "", without: Collection[str] = ()) -> Path:
    """The local folder of a diffusers pipeline. Raises ModelNotLoaded.

    A source that looks like a path (/…, ./…, ../…, ~…) is one. Anything else that is not a folder is a hub id.
    `without`: parts whose weights are not downloaded.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if is_path(source):
        raise ModelNotLoaded(f"there is no folder {source}: check `source` in models.toml")
    return download_pipeline(source, variant=variant, without=without)


def is_path(source: str) -> bool:
    """Whether it names a folder, which must be there, and can't be a hub id."""
    return source.startswith(("/", "./", "../", "~"))


def weight_files(folder: Path, variant: str = "") -> list[Path]:
    """The weight files that are read for a variant, sorted by part. Raises ModelNotLoaded."""
    files = choose_variants(folder, variant).files
    return [folder / part / name for part in sorted(files) for name in files[part]]


def choose_variants(folder: Path, asked: str) -> Variants:
    """Which of its weight files each part of a folder is read from. Raises ModelNotLoaded."""
    parts = {
        part: [file.name for file in (folder / part).iterdir()] if (folder / part).is_dir() else []
        for part in parts_of(read_index(folder))
    }
    return variants_of(str(folder), parts, asked)


def check_weights(folder: Path, variant: str = "") -> None:
    """Check the weights before torch is imported, which takes seconds. Raises ModelNotLoaded.

    Each part of the pipeline must have its weights as safetensors: pickles can run code.
    """
    for part in parts_of(read_index(folder)):
        if not (folder / part).is_dir():
            raise ModelNotLoaded(f"{folder} has no {part}: the download is not complete, or the copy is not")
        names = [file.name for file in (folder / part).iterdir()]
        pickles = [name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt"))]
        if pickles and not any(name.endswith(WEIGHTS) for name in names):
            raise ModelNotLoaded(
                f"{folder / part} has its weights as {pickles[0]} only, a pickle, which may run any code: "
                "convert it with save_pretrained(…, safe_serialization=True)"
            )
    for file in weight_files(folder, variant):
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
