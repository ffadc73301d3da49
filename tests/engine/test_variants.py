"""Folders whose weights are there in several precisions, or only in one that isn't the full one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from storage.catalog import Model
from tests.engine.tiny_pipelines import tiny_stable_diffusion
from worker.engine import ModelNotLoaded, load_engine
from worker.engine.loading.variants import variants_of
from worker.engine.loading.weights import weight_files


@pytest.fixture(scope="module")
def stable_diffusion() -> Any:
    return tiny_stable_diffusion()


def load(folder: Path, **more: Any) -> Any:
    model = Model(name="test/tiny", source=str(folder), dtype="float32", **more)
    engine: Any = load_engine(model, device="cpu")
    return engine._pipeline


def weights_of(pipeline: Any) -> torch.Tensor:
    weights: torch.Tensor = pipeline.unet.conv_in.weight
    return weights.detach()


@pytest.mark.parametrize("shard", ["10GB", "20KB"])
def test_a_folder_with_only_fp16_files_is_loaded(stable_diffusion: Any, tmp_path: Path, shard: str) -> None:
    stable_diffusion.save_pretrained(tmp_path / "sd", variant="fp16", max_shard_size=shard)
    files = weight_files(tmp_path / "sd")
    assert all("fp16" in file.name for file in files)
    assert (len(files) == 3) == (shard == "10GB")
    assert torch.equal(weights_of(load(tmp_path / "sd")), weights_of(stable_diffusion))


def test_of_two_variants_the_full_one_is_read_unless_the_catalog_names_the_other(
    stable_diffusion: Any, tmp_path: Path
) -> None:
    stable_diffusion.save_pretrained(tmp_path / "sd")
    full = weights_of(stable_diffusion).clone()
    with torch.no_grad():
        stable_diffusion.unet.conv_in.weight.mul_(2)  # so that they can be told apart
    stable_diffusion.save_pretrained(tmp_path / "sd", variant="fp16")
    with torch.no_grad():
        stable_diffusion.unet.conv_in.weight.copy_(full)
    assert torch.equal(weights_of(load(tmp_path / "sd")), full)
    assert torch.equal(weights_of(load(tmp_path / "sd", variant="fp16")), full * 2)
    assert len(weight_files(tmp_path / "sd")) == 3
    with pytest.raises(ModelNotLoaded, match=r'no weights of the variant "bf16": it has fp16. Check `variant`'):
        load(tmp_path / "sd", variant="bf16")


def test_a_part_that_has_no_such_variant_is_read_in_full(stable_diffusion: Any, tmp_path: Path) -> None:
    stable_diffusion.save_pretrained(tmp_path / "sd")
    stable_diffusion.unet.save_pretrained(tmp_path / "sd" / "unet", variant="fp16")
    names = {file.name for file in weight_files(tmp_path / "sd", "fp16")}
    assert names == {
        "diffusion_pytorch_model.fp16.safetensors",
        "diffusion_pytorch_model.safetensors",
        "model.safetensors",
    }
    assert load(tmp_path / "sd", variant="fp16") is not None


def test_two_variants_without_a_full_one_have_to_be_chosen_from() -> None:
    names = ["model.fp16.safetensors", "model.bf16.safetensors", "config.json"]
    with pytest.raises(ModelNotLoaded, match=r"several variants \(unet: bf16, fp16\): set `variant`"):
        variants_of("/models/x", {"unet": names}, "")
    assert variants_of("/models/x", {"unet": names}, "bf16").files == {"unet": ["model.bf16.safetensors"]}


def test_files_that_diffusers_does_not_read_do_not_count() -> None:
    names = ["consolidated.safetensors", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    chosen = variants_of("/models/x", {"text_encoder": [*names, "model.safetensors"]}, "")
    assert chosen.files == {"text_encoder": names[1:]}
