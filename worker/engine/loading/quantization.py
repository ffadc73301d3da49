"""Weights with fewer bits: quantized while they are read (torchao), or read from a quantized file (GGUF)."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

from storage.catalog import Model
from worker.engine.interface import ModelNotLoaded
from worker.engine.loading.weights import TRANSFORMER

CONFIGS = {"int8": "Int8WeightOnlyConfig", "int4": "Int4WeightOnlyConfig", "float8": "Float8WeightOnlyConfig"}


def quantized(model: Model, folder: Path) -> dict[str, Any]:
    """Arguments for `from_pretrained` that give a pipeline a quantized transformer. Raises ModelNotLoaded."""
    if model.device.gguf:
        return {TRANSFORMER: _read_gguf(model, folder)}
    if model.device.quantization:
        return {"quantization_config": _torchao_config(model.device.quantization)}
    return {}


def _torchao_config(asked: str) -> Any:
    _require("torchao", f'quantization = "{asked}"')
    import torchao.quantization
    from diffusers import PipelineQuantizationConfig, TorchAoConfig

    config = TorchAoConfig(getattr(torchao.quantization, CONFIGS[asked])())
    return PipelineQuantizationConfig(quant_mapping={TRANSFORMER: config})


def _read_gguf(model: Model, folder: Path) -> Any:
    """Read the transformer from a .gguf file, as used with ComfyUI; its configuration comes from the folder."""
    file = Path(model.device.gguf)
    if not file.is_file():
        raise ModelNotLoaded(f"there is no file {file}: check `gguf` in models.toml")
    _require("gguf", "a .gguf file")
    import diffusers
    import torch

    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    name = index.get(TRANSFORMER, [None, ""])[1]
    kind: Any = getattr(diffusers, name, None)
    if not hasattr(kind, "from_single_file"):
        raise ModelNotLoaded(f"gguf: {folder} has no transformer that can be read from one file")
    dtype = getattr(torch, model.dtype)
    try:
        return kind.from_single_file(
            str(file),
            config=str(folder),
            subfolder=TRANSFORMER,
            quantization_config=diffusers.GGUFQuantizationConfig(compute_dtype=dtype),
            torch_dtype=dtype,
            local_files_only=True,
        )
    except Exception as error:  # a damaged file, or one of another model: the libraries raise all kinds
        reason = str(error).strip().partition("\n")[0]
        raise ModelNotLoaded(f"{file} can't be read as a {name}: {type(error).__name__}: {reason}") from error


def _require(package: str, what: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise ModelNotLoaded(f"{what} needs {package}: `pip install -c constraints.txt {package}`")
