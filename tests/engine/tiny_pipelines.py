"""Pipelines of diffusers' own classes, tiny and with random weights: where the picture's content doesn't matter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel
from tokenizers import AddedToken, Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3Model

WORDS = ["a", "red", "green", "blue", "circle", "square", "on", "white", "left", "right", "and", "user", "assistant"]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|unknown|>"]
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def tiny_zimage() -> ZImagePipeline:
    """Z-Image's five parts, 8 latent channels, a picture of 64 × 64 in milliseconds."""
    torch.manual_seed(0)
    pipeline = ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=3.0),
        vae=tiny_vae(latent_channels=8),
        text_encoder=Qwen3Model(
            Qwen3Config(
                vocab_size=len(SPECIAL) + len(WORDS),
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=3,
                num_attention_heads=2,
                num_key_value_heads=2,
                head_dim=16,
                max_position_embeddings=512,
                tie_word_embeddings=True,
                pad_token_id=0,
                bos_token_id=1,
                eos_token_id=2,
            )
        ).eval(),
        tokenizer=word_tokenizer(),
        transformer=ZImageTransformer2DModel(
            in_channels=8,
            dim=48,
            n_layers=2,
            n_refiner_layers=1,
            n_heads=2,
            n_kv_heads=2,
            cap_feat_dim=32,
            axes_dims=[8, 8, 8],
            axes_lens=[1024, 128, 128],
        ).eval(),
    )
    _open_gates(pipeline.transformer)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def save(pipeline: Any, folder: Path) -> Path:
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def tiny_vae(*, latent_channels: int) -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        latent_channels=latent_channels,
        norm_num_groups=2,
        sample_size=64,
        scaling_factor=0.5,
        shift_factor=0.1,
        use_quant_conv=False,
        use_post_quant_conv=False,
    ).eval()


def word_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(
        WordLevel({word: index for index, word in enumerate(SPECIAL + WORDS)}, unk_token="<|unknown|>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL[:3]])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<|unknown|>",
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        chat_template=TEMPLATE,
        model_max_length=512,
        padding_side="right",
    )


def _open_gates(transformer: Any) -> None:
    """Let the time step and the prompt have a say, which small random modulations would not."""
    with torch.no_grad():
        for parameter in (transformer.x_pad_token, transformer.cap_pad_token):
            parameter.normal_(std=0.5)
        for parameter in transformer.parameters():
            if parameter.ndim == 2:
                parameter.mul_(2.0)
