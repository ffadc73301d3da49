"""What repositories on the hub consist of: file names, as their pages list them, and the parts of model_index.json.

Long rows of shards are shortened, and sizes are left out.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Listing:
    index: dict[str, object]
    files: list[str]


def part(library: str, name: str) -> list[str]:
    return [library, name]


CLIP_TOKENIZER = ["merges.txt", "special_tokens_map.json", "tokenizer_config.json", "vocab.json"]


def _in(folder: str, *names: str) -> list[str]:
    return [f"{folder}/{name}" for name in names]


FLUX_SCHNELL = Listing(
    index={
        "_class_name": "FluxPipeline",
        "_diffusers_version": "0.30.0.dev0",
        "scheduler": part("diffusers", "FlowMatchEulerDiscreteScheduler"),
        "text_encoder": part("transformers", "CLIPTextModel"),
        "text_encoder_2": part("transformers", "T5EncoderModel"),
        "tokenizer": part("transformers", "CLIPTokenizer"),
        "tokenizer_2": part("transformers", "T5TokenizerFast"),
        "transformer": part("diffusers", "FluxTransformer2DModel"),
        "vae": part("diffusers", "AutoencoderKL"),
    },
    files=[
        ".gitattributes",
        "README.md",
        "ae.safetensors",  # 0.3 GB, for other programs
        "flux1-schnell.safetensors",  # 24 GB, likewise
        "model_index.json",
        "schnell_grid.jpeg",
        *_in("scheduler", "scheduler_config.json"),
        *_in("text_encoder", "config.json", "model.safetensors"),
        *_in("text_encoder_2", "config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"),
        *_in("text_encoder_2", "model.safetensors.index.json"),
        *_in("tokenizer", *CLIP_TOKENIZER),
        *_in("tokenizer_2", "special_tokens_map.json", "spiece.model", "tokenizer.json", "tokenizer_config.json"),
        *_in("transformer", "config.json", "diffusion_pytorch_model.safetensors.index.json"),
        *_in("transformer", *(f"diffusion_pytorch_model-0000{n}-of-00003.safetensors" for n in (1, 2, 3))),
        *_in("vae", "config.json", "diffusion_pytorch_model.safetensors"),
    ],
)

SDXL_BASE = Listing(
    index={
        "_class_name": "StableDiffusionXLPipeline",
        "_diffusers_version": "0.19.0.dev0",
        "force_zeros_for_empty_prompt": True,
        "add_watermarker": None,
        "scheduler": part("diffusers", "EulerDiscreteScheduler"),
        "text_encoder": part("transformers", "CLIPTextModel"),
        "text_encoder_2": part("transformers", "CLIPTextModelWithProjection"),
        "tokenizer": part("transformers", "CLIPTokenizer"),
        "tokenizer_2": part("transformers", "CLIPTokenizer"),
        "unet": part("diffusers", "UNet2DConditionModel"),
        "vae": part("diffusers", "AutoencoderKL"),
    },
    files=[
        ".gitattributes",
        "01.png",
        "LICENSE.md",
        "README.md",
        "model_index.json",
        *_in("scheduler", "scheduler_config.json"),
        "sd_xl_base_1.0.safetensors",
        "sd_xl_base_1.0_0.9vae.safetensors",
        "sd_xl_offset_example-lora_1.0.safetensors",
        *_in("text_encoder", "config.json", "flax_model.msgpack", "model.fp16.safetensors", "model.onnx"),
        *_in("text_encoder", "model.safetensors", "openvino_model.bin", "openvino_model.xml"),
        *_in("text_encoder_2", "config.json", "flax_model.msgpack", "model.fp16.safetensors", "model.onnx"),
        *_in("text_encoder_2", "model.onnx_data", "model.safetensors", "openvino_model.bin", "openvino_model.xml"),
        *_in("tokenizer", *CLIP_TOKENIZER),
        *_in("tokenizer_2", *CLIP_TOKENIZER),
        *_in("unet", "config.json", "diffusion_flax_model.msgpack", "diffusion_pytorch_model.fp16.safetensors"),
        *_in("unet", "diffusion_pytorch_model.safetensors", "model.onnx", "model.onnx_data", "openvino_model.bin"),
        *_in("vae", "config.json", "diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.safetensors"),
        *_in("vae_1_0", "config.json", "diffusion_pytorch_model.fp16.safetensors"),
        *_in("vae_1_0", "diffusion_pytorch_model.safetensors"),
        *_in("vae_decoder", "config.json", "model.onnx", "openvino_model.bin"),
        *_in("vae_encoder", "config.json", "model.onnx", "openvino_model.bin"),
    ],
)

SD_15 = Listing(
    index={
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.6.0",
        "feature_extractor": part("transformers", "CLIPImageProcessor"),
        "safety_checker": part("stable_diffusion", "StableDiffusionSafetyChecker"),
        "scheduler": part("diffusers", "PNDMScheduler"),
        "text_encoder": part("transformers", "CLIPTextModel"),
        "tokenizer": part("transformers", "CLIPTokenizer"),
        "unet": part("diffusers", "UNet2DConditionModel"),
        "vae": part("diffusers", "AutoencoderKL"),
    },
    files=[
        ".gitattributes",
        "README.md",
        *_in("feature_extractor", "preprocessor_config.json"),
        "model_index.json",
        *_in("safety_checker", "config.json", "model.fp16.safetensors", "model.safetensors"),
        *_in("safety_checker", "pytorch_model.bin", "pytorch_model.fp16.bin"),
        *_in("scheduler", "scheduler_config.json"),
        *_in("text_encoder", "config.json", "model.fp16.safetensors", "model.safetensors"),
        *_in("text_encoder", "pytorch_model.bin", "pytorch_model.fp16.bin"),
        *_in("tokenizer", *CLIP_TOKENIZER),
        *_in("unet", "config.json", "diffusion_pytorch_model.bin", "diffusion_pytorch_model.fp16.bin"),
        *_in("unet", "diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.non_ema.bin"),
        *_in("unet", "diffusion_pytorch_model.non_ema.safetensors", "diffusion_pytorch_model.safetensors"),
        "v1-5-pruned-emaonly.ckpt",
        "v1-5-pruned-emaonly.safetensors",
        "v1-5-pruned.ckpt",
        "v1-5-pruned.safetensors",
        "v1-inference.yaml",
        *_in("vae", "config.json", "diffusion_pytorch_model.bin", "diffusion_pytorch_model.fp16.bin"),
        *_in("vae", "diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.safetensors"),
    ],
)

KOLORS = Listing(
    index={
        "_class_name": "KolorsPipeline",
        "scheduler": part("diffusers", "EulerDiscreteScheduler"),
        "text_encoder": part("kolors", "ChatGLMModel"),
        "tokenizer": part("kolors", "ChatGLMTokenizer"),
        "unet": part("diffusers", "UNet2DConditionModel"),
        "vae": part("diffusers", "AutoencoderKL"),
        "image_encoder": [None, None],
        "feature_extractor": [None, None],
    },
    files=[
        ".gitattributes",
        "README.md",
        *_in("imgs", "head_final3.png"),
        "model_index.json",
        *_in("scheduler", "scheduler_config.json"),
        *_in("text_encoder", "config.json", "model.fp16-00001-of-00002.safetensors"),
        *_in("text_encoder", "model.fp16-00002-of-00002.safetensors", "model.safetensors.index.fp16.json"),
        *_in("tokenizer", "tokenizer.model", "tokenizer_config.json", "vocab.txt", "tokenization_chatglm.py"),
        *_in("unet", "config.json", "diffusion_pytorch_model.fp16.safetensors"),
        *_in("vae", "config.json", "diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.safetensors"),
    ],
)
