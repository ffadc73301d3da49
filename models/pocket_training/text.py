"""The tokenizer and the text encoder: a word a token, and a very small Qwen3."""

import torch
from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordLevel
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3Model

from .vocabulary import words

PAD, START, END, UNKNOWN = "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|unknown|>"
BEFORE, AFTER = f"{START}user\n", f"{END}\n{START}assistant\n"
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""Qwen's, without thinking and tools; the line breaks have no tokens."""

CAPTION_MULTIPLE = 32
"""The transformer pads captions to a multiple of this (SEQ_MULTI_OF in diffusers)."""

HIDDEN = 128


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Lower case, accents and punctuation dropped, a token for each known word, one for all others."""
    vocabulary = {token: index for index, token in enumerate([PAD, START, END, UNKNOWN, *words()])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[^a-z0-9]+"), behavior="removed")
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in (PAD, START, END)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=UNKNOWN,
        pad_token=PAD,
        eos_token=END,
        chat_template=CHAT_TEMPLATE,
        model_max_length=512,
        padding_side="right",
    )


def build_text_encoder(vocabulary_size: int) -> Qwen3Model:
    """Two layers that work and a third that does not: the pipeline reads the layer before the last."""
    config = Qwen3Config(
        vocab_size=vocabulary_size,
        hidden_size=HIDDEN,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=32,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    encoder = Qwen3Model(config)
    torch.nn.init.normal_(encoder.embed_tokens.weight, std=0.5)
    for parameter in encoder.layers[-1].parameters():
        torch.nn.init.zeros_(parameter)
    return encoder


def tokenize(tokenizer: PreTrainedTokenizerFast, captions: list[str]) -> tuple[Tensor, Tensor]:
    """Token ids (batch, a multiple of 32) and how many of them are real, as the pipeline would find them."""
    encodings = tokenizer.backend_tokenizer.encode_batch([BEFORE + caption + AFTER for caption in captions])
    rows = [encoding.ids for encoding in encodings]
    lengths = torch.tensor([len(row) for row in rows])
    width = -(-int(lengths.max()) // CAPTION_MULTIPLE) * CAPTION_MULTIPLE
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row)
    return ids, lengths


def encode(encoder: Qwen3Model, ids: Tensor) -> Tensor:
    """The states that the pipeline hands to the transformer; no token sees the padding that follows it."""
    states = encoder(input_ids=ids, output_hidden_states=True, use_cache=False).hidden_states
    assert states is not None
    taken: Tensor = states[-2]
    return taken
