"""Pipelines of diffusers' own classes, tiny and with random weights: where the picture's content doesn't matter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from tokenizers import AddedToken, Regex, Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
)

WORDS = ["a", "red", "green", "blue", "circle", "square", "on", "white", "left", "right", "and", "user", "assistant"]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|unknown|>"]
WORDS_AND_SIGNS = r"\w+|[^\w\s]+"
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


def word_tokenizer(
    *, template: str = TEMPLATE, pieces: str = WORDS_AND_SIGNS, more: Sequence[str] = ()
) -> PreTrainedTokenizerFast:
    """`more`: special tokens behind all others."""
    tokenizer = Tokenizer(
        WordLevel({word: index for index, word in enumerate([*SPECIAL, *WORDS, *more])}, unk_token="<|unknown|>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pieces), "removed", invert=True)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL[:3]])
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in more])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<|unknown|>",
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        chat_template=template,
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


def tiny_stable_diffusion() -> StableDiffusionPipeline:
    torch.manual_seed(0)
    pipeline = StableDiffusionPipeline(
        vae=old_vae(),
        text_encoder=CLIPTextModel(_clip_config()).eval(),
        tokenizer=clip_tokenizer(),
        unet=UNet2DConditionModel(
            sample_size=8, cross_attention_dim=32, block_out_channels=(8, 16), norm_num_groups=4, layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=2,
        ).eval(),
        scheduler=DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def tiny_latent_consistency() -> LatentConsistencyModelPipeline:
    """The parts of the tiny Stable Diffusion in a family that diffusers can give a start image, but no mask."""
    parts = tiny_stable_diffusion().components | {"scheduler": LCMScheduler()}
    pipeline = LatentConsistencyModelPipeline(**parts, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def tiny_sdxl() -> StableDiffusionXLPipeline:
    torch.manual_seed(0)
    pipeline = StableDiffusionXLPipeline(
        vae=old_vae(),
        text_encoder=CLIPTextModel(_clip_config()).eval(),
        text_encoder_2=CLIPTextModelWithProjection(_clip_config()).eval(),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        unet=UNet2DConditionModel(
            sample_size=8, cross_attention_dim=64, block_out_channels=(8, 16), norm_num_groups=4, layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=(2, 4),
            use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=8,
            transformer_layers_per_block=(1, 1), projection_class_embeddings_input_dim=8 * 6 + 32,
        ).eval(),
        scheduler=EulerDiscreteScheduler(beta_schedule="scaled_linear", steps_offset=1, timestep_spacing="leading"),
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def tiny_flux() -> FluxPipeline:
    torch.manual_seed(0)
    pipeline = FluxPipeline(
        vae=tiny_vae(latent_channels=1),
        text_encoder=CLIPTextModel(_clip_config()).eval(),
        text_encoder_2=T5EncoderModel(
            T5Config(vocab_size=32, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=4)
        ).eval(),
        tokenizer=clip_tokenizer(),
        tokenizer_2=word_tokenizer(),
        transformer=FluxTransformer2DModel(
            patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16,
            num_attention_heads=2, joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=[4, 4, 8],
        ).eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def old_vae() -> AutoencoderKL:
    """As Stable Diffusion has it: no shift."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=2,
        sample_size=64,
    ).eval()


def _clip_config() -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=32, hidden_size=32, intermediate_size=37, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=77, projection_dim=32, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip


def clip_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = word_tokenizer()
    tokenizer.model_max_length = 77
    return tokenizer


def tiny_safety_checker(*, threshold: float) -> StableDiffusionSafetyChecker:
    """diffusers' own, with random weights: it blackens each image whose similarity to a concept is over the threshold.

    Similarities are -1 to 1, so -2 blackens every image and 2 none.
    """
    torch.manual_seed(0)
    text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    checker = StableDiffusionSafetyChecker(
        CLIPConfig(
            text_config=text | {"vocab_size": 32},
            vision_config=text | {"image_size": 32, "patch_size": 8},
            projection_dim=16,
        )
    ).eval()
    checker.concept_embeds.data.normal_()
    checker.special_care_embeds.data.normal_()
    checker.concept_embeds_weights.data.fill_(threshold)
    checker.special_care_embeds_weights.data.fill_(2.0)
    return checker


def guarded_stable_diffusion(*, threshold: float) -> StableDiffusionPipeline:
    """The tiny Stable Diffusion with a safety checker."""
    size = {"height": 32, "width": 32}
    pipeline = StableDiffusionPipeline(
        **tiny_stable_diffusion().components
        | {
            "safety_checker": tiny_safety_checker(threshold=threshold),
            "feature_extractor": CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size),
        }
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
