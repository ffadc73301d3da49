"""How a pipeline lies on its device: attention back end, quantization, offload, compilation. All off by default."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from storage.catalog import DeviceSettings
from worker.engine.interface import ModelNotLoaded

if TYPE_CHECKING:
    import torch

QUANTIZED = {"int8": "Int8WeightOnlyConfig", "int4": "Int4WeightOnlyConfig", "float8": "Float8WeightOnlyConfig"}


def quantization_of(asked: DeviceSettings) -> dict[str, Any]:
    """The arguments of `from_pretrained` that quantize the transformer's weights. Raises ModelNotLoaded."""
    if not asked.quantization:
        return {}
    if importlib.util.find_spec("torchao") is None:
        raise ModelNotLoaded(f'quantization = "{asked.quantization}" needs torchao: pip install torchao')
    import torchao.quantization
    from diffusers import PipelineQuantizationConfig, TorchAoConfig

    config = TorchAoConfig(getattr(torchao.quantization, QUANTIZED[asked.quantization])())
    return {"quantization_config": PipelineQuantizationConfig(quant_mapping={"transformer": config})}


def place(pipeline: Any, asked: DeviceSettings, device: torch.device) -> None:
    """Move a pipeline to its device and set it up there. Raises ModelNotLoaded where a setting can't be had."""
    pipeline.set_progress_bar_config(disable=True)
    denoiser: Any = getattr(pipeline, "transformer", None) or getattr(pipeline, "unet", None)
    if asked.attention:
        if not hasattr(denoiser, "set_attention_backend"):
            raise ModelNotLoaded(f"attention: {type(denoiser).__name__} has no attention back ends to choose from")
        try:
            denoiser.set_attention_backend(asked.attention)
        except (ValueError, ImportError, RuntimeError) as error:
            raise ModelNotLoaded(f'attention = "{asked.attention}" can\'t be had here: {error}') from None
    if asked.offload and device.type == "cpu":
        raise ModelNotLoaded(f'offload = "{asked.offload}" keeps weights off a GPU, and there is none')
    if asked.offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    elif asked.offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=device)
    elif not asked.device_map:
        pipeline.to(device)
    if asked.compile:
        if not hasattr(denoiser, "compile_repeated_blocks"):
            raise ModelNotLoaded(f"compile: {type(denoiser).__name__} has no repeated blocks")
        denoiser.compile_repeated_blocks(dynamic=True)
