"""A checkpoint in one .safetensors file, as Civitai and ComfyUI have them, read with diffusers' from_single_file.

The file holds weights only. What the parts are like comes from a folder of the same family: `config` in models.toml, or
the one on the hub that diffusers recognizes the weights by. Parts that are not in the file are read from that folder.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

from worker.engine.interface import ModelNotLoaded
from worker.engine.loading.pipeline_index import read_index
from worker.engine.loading.weights import check_weights, check_whole, choose_variants, find_weights

# What diffusers suggests for a part that is in neither place: `text_encoder = T5EncoderModel.from_pretrained('...')`.
LACKING = re.compile(r"^(?P<part>\w+) = \w+\.from_pretrained", re.MULTILINE)
LIBRARIES = ("diffusers", "transformers")


def find_single_file(source: str) -> Path:
    """Raises ModelNotLoaded if the file isn't there, or is cut short."""
    file = Path(source).expanduser()
    if not file.is_file():
        raise ModelNotLoaded(f"there is no file {source}: check `source` in models.toml")
    check_whole(file)
    return file


def find_config(file: Path, config: str) -> Path:
    """The folder that says what the file's parts are like. Raises ModelNotLoaded.

    From the hub, only the small files are downloaded. Imports torch and diffusers if `config` is empty.
    """
    if config:
        try:
            folder = find_weights(config, without="*")
            check_weights(folder)
            return folder
        except ModelNotLoaded as error:
            raise ModelNotLoaded(f"`config` of {file}: {error}") from error
    try:
        recognized = _recognize(file)
    except (ImportError, OSError) as error:
        raise ModelNotLoaded(f"torch and diffusers can't be imported: {error}") from error
    try:
        return find_weights(recognized, without="*")
    except ModelNotLoaded as error:
        raise ModelNotLoaded(
            f"{file} is read with the configuration of {recognized}, which can't be had: set `config` in models.toml "
            "to a diffusers folder of the same family"
        ) from error


def read_pipeline(pipeline_class: Any, file: Path, config: Path, *, dtype: Any, **more: Any) -> Any:
    """Raises ModelNotLoaded if diffusers can't read this family from one file, or a part is in neither place."""
    from diffusers.loaders.single_file_utils import SingleFileComponentError

    name = pipeline_class.__name__
    if not hasattr(pipeline_class, "from_single_file"):
        raise ModelNotLoaded(f"diffusers can't read a {name} from one file: set `source` to a diffusers folder")
    parts: dict[str, Any] = {}
    while True:
        try:
            return pipeline_class.from_single_file(
                str(file), config=str(config), local_files_only=True, dtype=dtype, **more, **parts
            )
        except SingleFileComponentError as error:
            lacking = LACKING.search(str(error))
            if lacking is None or lacking["part"] in parts:
                raise
            parts[lacking["part"]] = _read_part(file, config, lacking["part"], dtype)


def _read_part(file: Path, config: Path, part: str, dtype: Any) -> Any:
    """A part that the file doesn't hold. diffusers itself doesn't look for all of them in the folder."""
    library, kind = read_index(config)[part]
    if library not in LIBRARIES or not choose_variants(config, "").files.get(part):
        raise ModelNotLoaded(
            f"{file} doesn't hold the weights of the {part} ({kind}): set `config` in models.toml to a diffusers "
            "folder that has them"
        )
    part_class = getattr(importlib.import_module(library), kind)
    return part_class.from_pretrained(config, subfolder=part, dtype=dtype, use_safetensors=True, local_files_only=True)


def _recognize(file: Path) -> str:
    """The hub id of the family's diffusers folder, by the names and shapes of the weights."""
    from diffusers.loaders.single_file_utils import (
        CHECKPOINT_KEY_NAMES,
        fetch_diffusers_config,
        infer_diffusers_model_type,
        load_single_file_checkpoint,
    )

    weights = load_single_file_checkpoint(str(file), local_files_only=True)
    if infer_diffusers_model_type(weights) == "v1" and CHECKPOINT_KEY_NAMES["v1"] not in weights:  # its last resort
        raise ModelNotLoaded(
            f"diffusers doesn't recognize what {file} holds: set `config` in models.toml to a diffusers folder of the "
            "same family"
        )
    return str(fetch_diffusers_config(weights)["pretrained_model_name_or_path"])
