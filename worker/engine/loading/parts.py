"""Parts of a pipeline that need care when they are read.

Some families keep a processor for texts, pictures and videos, which needs torchvision. No videos come to it here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from worker.engine.loading.pipeline_index import parts_of

LEFT_OUT = {
    "LongCatImagePipeline": ("text_processor",),  # it rewrites prompts, which worker/engine/pipeline.py turns off
    # `complete` adds these:
    "Flux2Pipeline": ("tokenizer",),
    "QwenImageEditPipeline": ("processor",),
    "QwenImageEditPlusPipeline": ("processor",),
}
# HiDream's authors leave Llama 3.1 out of their folder.
NEEDED = {"HiDreamImagePipeline": ("text_encoder_4", "tokenizer_4")}


def left_out_parts(pipeline_class: str) -> dict[str, None]:
    """Arguments for `from_pretrained`: the parts that are not read."""
    return dict.fromkeys(LEFT_OUT.get(pipeline_class, ()))


def complete(pipeline: Any, folder: Path) -> None:
    """Add what stands in for parts that were left out."""
    if type(pipeline).__name__ == "Flux2Pipeline":
        from transformers import AutoTokenizer

        # FLUX.2's processor renders the chat template, and hands the text to this tokenizer.
        # It lies in a folder here, so nothing is downloaded.
        tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)  # nosec B615
        pipeline.register_modules(tokenizer=tokenizer)
    elif "processor" in LEFT_OUT.get(type(pipeline).__name__, ()):
        from worker.engine.loading.images_and_text import ImagesAndText

        pipeline.register_modules(processor=ImagesAndText.read(folder / "processor", pipeline.tokenizer))


def missing_parts(index: Mapping[str, Any]) -> list[str]:
    """Parts that the pipeline of a model_index.json needs, and doesn't name."""
    return [part for part in NEEDED.get(str(index["_class_name"]), ()) if part not in parts_of(index)]
