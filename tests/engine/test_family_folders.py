"""What is wrong with a folder of some families, in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from storage.catalog import Model
from tests.engine.tiny_families import tiny_hidream
from tests.engine.tiny_pipelines import save, tiny_stable_diffusion
from worker.engine import ModelNotLoaded, load_engine


def load(folder: Path) -> None:
    load_engine(Model(name="test/tiny", source=str(folder), dtype="float32"), device="cpu")


def test_hidream_without_its_fourth_text_encoder_is_refused_in_words(tmp_path: Path) -> None:
    """As it is published."""
    folder = save(tiny_hidream(), tmp_path / "hidream")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"text_encoder_4": [None, None]}))
    with pytest.raises(ModelNotLoaded, match="has no text_encoder_4, which a HiDreamImagePipeline needs: copy it"):
        load(folder)


def test_a_pipeline_that_draws_nothing_from_a_text_is_refused_in_words(tmp_path: Path) -> None:
    folder = save(tiny_stable_diffusion(), tmp_path / "variation")
    index = json.loads((folder / "model_index.json").read_text())
    for part in ("text_encoder", "tokenizer"):
        del index[part]
    index |= {"_class_name": "DDIMPipeline"}
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ModelNotLoaded, match="a DDIMPipeline takes no prompt: it draws nothing from a text alone"):
        load(folder)
