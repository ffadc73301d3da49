"""More families of diffusers, tiny and with random weights, each as it is saved in a folder.

The configurations are those of diffusers' own tests (tests/pipelines), cut down further. Tokenizers know a dozen words,
so nothing comes from the hub.
"""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    ChromaPipeline,
    ChromaTransformer2DModel,
    DDIMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Pipeline,
    Flux2Transformer2DModel,
    HiDreamImagePipeline,
    HiDreamImageTransformer2DModel,
    LongCatImagePipeline,
    LongCatImageTransformer2DModel,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    QwenImageEditPlusPipeline,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    Gemma2Config,
    Gemma2Model,
    LlamaConfig,
    LlamaForCausalLM,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5EncoderModel,
)

from tests.engine.tiny_pipelines import clip_tokenizer, old_vae, tiny_vae, word_tokenizer
from worker.engine.loading.images_and_text import ImagesAndText


def tiny_sd3() -> StableDiffusion3Pipeline:
    torch.manual_seed(0)
    return StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(
            sample_size=32, patch_size=1, in_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=4,
            caption_projection_dim=32, joint_attention_dim=32, pooled_projection_dim=64, out_channels=4,
        ).eval(),
        text_encoder=_clip_with_projection(),
        text_encoder_2=_clip_with_projection(),
        text_encoder_3=_t5(),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        tokenizer_3=word_tokenizer(),
        vae=tiny_vae(latent_channels=4),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )  # fmt: skip


def tiny_flux2() -> Flux2Pipeline:
    """Its text encoder has 31 layers: the pipeline takes what comes out of layers 10, 20 and 30.

    With a tokenizer in place of the processor, which needs torchvision; `save_as_published` writes what is published.
    """
    torch.manual_seed(0)
    text = {
        "model_type": "mistral", "vocab_size": 32, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 31,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4, "max_position_embeddings": 1024,
        "sliding_window": None, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
    }  # fmt: skip
    vision = {
        "model_type": "pixtral", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 8, "image_size": 30, "patch_size": 6, "num_channels": 3,
    }  # fmt: skip
    config = Mistral3Config(text_config=text, vision_config=vision, vision_feature_layer=-1, image_token_index=3)
    return Flux2Pipeline(
        transformer=_flux2_transformer(joint_attention_dim=24, guidance_embeds=True),
        text_encoder=Mistral3ForConditionalGeneration(config).eval(),
        tokenizer=word_tokenizer(template=PARTS_TEMPLATE),
        vae=_flux2_vae(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )


def tiny_flux2_klein(*, is_distilled: bool = False) -> Flux2KleinPipeline:
    """Its text encoder has 28 layers: the pipeline takes what comes out of layers 9, 18 and 27."""
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=32, hidden_size=8, intermediate_size=8, num_hidden_layers=28, num_attention_heads=2,
        num_key_value_heads=1, head_dim=4, max_position_embeddings=1024, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    return Flux2KleinPipeline(
        transformer=_flux2_transformer(joint_attention_dim=24, guidance_embeds=False),
        text_encoder=Qwen3ForCausalLM(config).eval(),
        tokenizer=word_tokenizer(),
        vae=_flux2_vae(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        is_distilled=is_distilled,
    )


def tiny_qwen_image() -> QwenImagePipeline:
    torch.manual_seed(0)
    return QwenImagePipeline(
        transformer=QwenImageTransformer2DModel(
            patch_size=2, in_channels=16, out_channels=4, num_layers=1, attention_head_dim=16, num_attention_heads=2,
            joint_attention_dim=16, guidance_embeds=False, axes_dims_rope=(8, 4, 4),
        ).eval(),
        vae=AutoencoderKLQwenImage(
            base_dim=8, z_dim=4, dim_mult=[1, 2, 4, 4], num_res_blocks=1, temperal_downsample=[False, True, True],
            latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
        ).eval(),
        text_encoder=_qwen25_vl(),
        tokenizer=word_tokenizer(pieces=r"\w{1,6}|[^\w\s]"),  # the first 34 tokens are the pipeline's own, and cut off
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )  # fmt: skip


def tiny_qwen_edit_plus() -> QwenImageEditPlusPipeline:
    """Qwen-Image's parts, a text encoder that sees the images, and a processor for both."""
    text_to_image = tiny_qwen_image()
    special = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>"]
    tokenizer = word_tokenizer(pieces=r"\w{1,6}|[^\w\s]", more=special)
    start, end, image = tokenizer.convert_tokens_to_ids(special)
    return QwenImageEditPlusPipeline(
        transformer=text_to_image.transformer,
        vae=text_to_image.vae,
        text_encoder=_qwen25_vl(vision_start_token_id=start, vision_end_token_id=end, image_token_id=image),
        tokenizer=tokenizer,
        processor=ImagesAndText(Qwen2VLImageProcessorPil(), tokenizer),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )


def tiny_pixart(kind: type[Any] = PixArtAlphaPipeline) -> Any:
    """`sample_size` is the smallest that the family has: 256 pixels."""
    torch.manual_seed(0)
    return kind(
        transformer=PixArtTransformer2DModel(
            sample_size=32, num_layers=1, patch_size=2, attention_head_dim=8, num_attention_heads=2,
            caption_channels=32, in_channels=4, cross_attention_dim=16, out_channels=8, attention_bias=True,
            activation_fn="gelu-approximate", num_embeds_ada_norm=1000, norm_type="ada_norm_single",
            norm_elementwise_affine=False, norm_eps=1e-6,
        ).eval(),
        vae=old_vae(),
        text_encoder=_t5(),
        tokenizer=word_tokenizer(),
        scheduler=DDIMScheduler(),
    )  # fmt: skip


def tiny_pixart_sigma() -> Any:
    return tiny_pixart(PixArtSigmaPipeline)


def tiny_sana() -> SanaPipeline:
    """The autoencoder divides by 32, as the real one does: the pipeline draws in 512 pixels whatever is asked for."""
    torch.manual_seed(0)
    blocks = ("ResBlock",) * 6
    return SanaPipeline(
        transformer=SanaTransformer2DModel(
            patch_size=1, in_channels=4, out_channels=4, num_layers=1, num_attention_heads=2, attention_head_dim=4,
            num_cross_attention_heads=2, cross_attention_head_dim=4, cross_attention_dim=8, caption_channels=8,
            sample_size=16,
        ).eval(),
        vae=AutoencoderDC(
            in_channels=3, latent_channels=4, attention_head_dim=2, encoder_block_types=blocks,
            decoder_block_types=blocks, encoder_block_out_channels=(4,) * 6, decoder_block_out_channels=(4,) * 6,
            encoder_qkv_multiscales=((),) * 6, decoder_qkv_multiscales=((),) * 6, encoder_layers_per_block=(1,) * 6,
            decoder_layers_per_block=(1,) * 6, downsample_block_type="conv", upsample_block_type="interpolate",
            decoder_norm_types="rms_norm", decoder_act_fns="silu", scaling_factor=0.41407,
        ).eval(),
        text_encoder=Gemma2Model(
            Gemma2Config(
                head_dim=8, hidden_size=8, intermediate_size=16, num_attention_heads=2, num_hidden_layers=1,
                num_key_value_heads=1, vocab_size=32, pad_token_id=0, bos_token_id=1, eos_token_id=2,
            )
        ).eval(),
        tokenizer=word_tokenizer(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
    )  # fmt: skip


def tiny_longcat() -> LongCatImagePipeline:
    """Without its `text_processor`, whose videos need torchvision; `save_as_published` writes what is published."""
    torch.manual_seed(0)
    return LongCatImagePipeline(
        transformer=LongCatImageTransformer2DModel(
            patch_size=1, in_channels=64, num_layers=1, num_single_layers=1, attention_head_dim=16,
            num_attention_heads=2, joint_attention_dim=16, pooled_projection_dim=16, axes_dims_rope=[4, 4, 8],
        ).eval(),
        vae=tiny_vae(latent_channels=16),
        text_encoder=_qwen25_vl(),
        tokenizer=word_tokenizer(),
        text_processor=None,
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )  # fmt: skip


def tiny_hidream() -> HiDreamImagePipeline:
    """It draws 128 × 128 latents, 256 × 256 pixels here, whatever is asked for."""
    torch.manual_seed(0)
    llama = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=512, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        attn_implementation="eager",
    )  # fmt: skip
    return HiDreamImagePipeline(
        transformer=HiDreamImageTransformer2DModel(
            patch_size=2, in_channels=4, out_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=8,
            num_attention_heads=2, caption_channels=[32, 16], text_emb_dim=64, num_routed_experts=2,
            num_activated_experts=1, axes_dims_rope=(4, 2, 2), max_resolution=(64, 64), llama_layers=(0, 1),
        ).eval(),
        text_encoder=_clip_with_projection(positions=128),
        text_encoder_2=_clip_with_projection(positions=128),
        text_encoder_3=_t5(),
        text_encoder_4=LlamaForCausalLM(llama).eval(),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        tokenizer_3=word_tokenizer(),
        tokenizer_4=word_tokenizer(),
        vae=_vae_of_two_levels(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )  # fmt: skip


def tiny_chroma() -> ChromaPipeline:
    torch.manual_seed(0)
    return ChromaPipeline(
        transformer=ChromaTransformer2DModel(
            patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16,
            num_attention_heads=2, joint_attention_dim=32, axes_dims_rope=[4, 4, 8], approximator_hidden_dim=32,
            approximator_layers=1, approximator_num_channels=16,
        ).eval(),
        text_encoder=_t5(),
        tokenizer=word_tokenizer(),
        vae=tiny_vae(latent_channels=4),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )  # fmt: skip


def tiny_kolors(folder: Path) -> Any:
    """Needs sentencepiece, with which its tokenizer is made in `folder`."""
    import sentencepiece
    from diffusers import KolorsPipeline
    from diffusers.pipelines.kolors import ChatGLMModel, ChatGLMTokenizer
    from diffusers.pipelines.kolors.text_encoder import ChatGLMConfig

    vocabulary = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a red circle on white", "a blue square", "green left and right"] * 4),
        model_writer=vocabulary,
        vocab_size=26,
        minloglevel=2,
    )
    folder.mkdir()
    (folder / "tokenizer.model").write_bytes(vocabulary.getvalue())
    torch.manual_seed(0)
    config = ChatGLMConfig(
        num_layers=2, padded_vocab_size=64, hidden_size=8, ffn_hidden_size=16, kv_channels=4, num_attention_heads=2,
        seq_length=512, multi_query_attention=True, multi_query_group_num=1, rmsnorm=True, add_qkv_bias=True,
        attention_softmax_in_fp32=True, original_rope=True, post_layer_norm=True,
    )  # fmt: skip
    text_encoder = ChatGLMModel(config).eval()
    for weights in text_encoder.parameters():  # some are not filled
        torch.nn.init.normal_(weights, std=0.2)
    return KolorsPipeline(
        unet=UNet2DConditionModel(
            sample_size=8, cross_attention_dim=8, block_out_channels=(8, 16), norm_num_groups=4, layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=(2, 4),
            use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=8,
            transformer_layers_per_block=(1, 1), projection_class_embeddings_input_dim=8 * 6 + 8,
        ).eval(),
        text_encoder=text_encoder,
        tokenizer=ChatGLMTokenizer(str(folder / "tokenizer.model")),
        vae=old_vae(),
        scheduler=EulerDiscreteScheduler(beta_schedule="scaled_linear", steps_offset=1, timestep_spacing="leading"),
    )  # fmt: skip


def save_as_published(pipeline: Any, folder: Path) -> Path:
    """As the authors' folders are: FLUX.2 and LongCat have processors, which can't be made without torchvision."""
    if isinstance(pipeline, QwenImageEditPlusPipeline):
        pipeline.register_modules(processor=None)
    pipeline.save_pretrained(folder)
    index = folder / "model_index.json"
    said = json.loads(index.read_text())
    if isinstance(pipeline, Flux2Pipeline):
        said["tokenizer"] = ["transformers", "PixtralProcessor"]
        (folder / "tokenizer" / "processor_config.json").write_text('{"processor_class": "PixtralProcessor"}')
    if isinstance(pipeline, QwenImageEditPlusPipeline):
        said["processor"] = ["transformers", "Qwen2VLProcessor"]
        Qwen2VLImageProcessorPil().save_pretrained(folder / "processor")
    if isinstance(pipeline, LongCatImagePipeline):
        said["text_processor"] = ["transformers", "Qwen2VLProcessor"]
        shutil.copytree(folder / "tokenizer", folder / "text_processor")
    index.write_text(json.dumps(said))
    return folder


# Like a processor's: the content of a message is a list of parts.
PARTS_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% for part in message['content'] %}{{ part['text'] }}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
)


def _clip_with_projection(*, positions: int = 77) -> CLIPTextModelWithProjection:
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=positions, projection_dim=32, bos_token_id=1, eos_token_id=2, pad_token_id=0,
        )
    ).eval()  # fmt: skip


def _t5() -> T5EncoderModel:
    return T5EncoderModel(T5Config(vocab_size=32, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=4)).eval()


def _qwen25_vl(**tokens: int) -> Qwen2_5_VLForConditionalGeneration:
    """`tokens`: the ids of those that stand for images."""
    text = {
        "vocab_size": 32, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 1, "max_position_embeddings": 2048, "pad_token_id": 0,
        "rope_parameters": {"mrope_section": [1, 1, 2], "rope_type": "default", "rope_theta": 1000000.0},
    }  # fmt: skip
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16}
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, **tokens)
    return Qwen2_5_VLForConditionalGeneration(config).eval()


def _flux2_transformer(*, joint_attention_dim: int, guidance_embeds: bool) -> Flux2Transformer2DModel:
    return Flux2Transformer2DModel(
        patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=joint_attention_dim, timestep_guidance_channels=32, axes_dims_rope=[4, 4, 4, 4],
        guidance_embeds=guidance_embeds,
    ).eval()  # fmt: skip


def _vae_of_two_levels() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(4, 4), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, layers_per_block=1, latent_channels=4, norm_num_groups=2,
        scaling_factor=0.3611, shift_factor=0.1159,
    ).eval()  # fmt: skip


def _flux2_vae() -> AutoencoderKLFlux2:
    return AutoencoderKLFlux2(
        sample_size=32, in_channels=3, out_channels=3, down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, block_out_channels=(4,) * 4, layers_per_block=1, latent_channels=1,
        norm_num_groups=1, use_quant_conv=False, use_post_quant_conv=False,
    ).eval()  # fmt: skip
