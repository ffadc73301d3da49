"""What is downloaded from the hub: the parts that model_index.json names, in one variant, as safetensors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tests.engine.hub_listings import FLUX_SCHNELL, KOLORS, SD_15, SDXL_BASE, Listing
from tests.support.hub import Hub
from worker.engine import ModelNotLoaded
from worker.engine.loading.hub import chosen_files


def chosen(listing: Listing, **more: Any) -> set[str]:
    return set(chosen_files("owner/name", listing.index, listing.files, **({"variant": ""} | more)))


def weights(files: set[str]) -> set[str]:
    return {file for file in files if file.endswith(".safetensors")}


def test_the_same_weights_in_one_file_for_other_programs_stay_where_they_are() -> None:
    files = chosen(FLUX_SCHNELL)
    assert {"ae.safetensors", "flux1-schnell.safetensors", "README.md"}.isdisjoint(files)
    assert files == {
        file for file in FLUX_SCHNELL.files if "/" in file or file == "model_index.json"
    }  # nothing that is needed is left out


def test_one_variant_is_downloaded() -> None:
    assert weights(chosen(SDXL_BASE)) == {
        "text_encoder/model.safetensors",
        "text_encoder_2/model.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    }
    assert weights(chosen(SDXL_BASE, variant="fp16")) == {
        "text_encoder/model.fp16.safetensors",
        "text_encoder_2/model.fp16.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/diffusion_pytorch_model.fp16.safetensors",
    }


def test_no_pickles_no_code_and_no_folder_that_the_index_does_not_name() -> None:
    for listing in (SDXL_BASE, SD_15, KOLORS):
        files = chosen(listing)
        assert not [file for file in files if file.endswith((".bin", ".ckpt", ".py", ".onnx", ".msgpack", ".xml"))]
        assert {file.partition("/")[0] for file in files} <= {*listing.index, "model_index.json"}
    assert len(weights(chosen(SD_15))) == 4  # not the fp16 ones, nor those that are for training
    assert "unet/diffusion_pytorch_model.non_ema.safetensors" not in chosen(SD_15)


def test_a_repository_with_only_fp16_weights_is_downloaded_in_them() -> None:
    assert weights(chosen(KOLORS)) == {
        "text_encoder/model.fp16-00001-of-00002.safetensors",
        "text_encoder/model.fp16-00002-of-00002.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/diffusion_pytorch_model.fp16.safetensors",
    }
    assert {"tokenizer/tokenizer.model", "text_encoder/model.safetensors.index.fp16.json"} <= chosen(KOLORS)


def test_weights_that_come_from_elsewhere_are_left_out_and_their_configuration_is_not() -> None:
    files = chosen(FLUX_SCHNELL, without={"transformer"})
    assert not [file for file in weights(files) if file.startswith("transformer/")]
    assert "transformer/config.json" in files
    assert not weights(chosen(FLUX_SCHNELL, without="*"))


def test_a_part_that_is_there_as_a_pickle_only_is_named_before_anything_is_downloaded() -> None:
    files = [file for file in SD_15.files if not file.startswith("unet/") or not file.endswith(".safetensors")]
    with pytest.raises(ModelNotLoaded, match=r"weights of its unet as diffusion_pytorch_model\.bin only, a pickle"):
        chosen_files("owner/name", SD_15.index, files, variant="")


PROGRAM = """
import sys
from worker.engine import ModelNotLoaded
from worker.engine.loading.weights import check_weights, find_weights

try:
    folder = find_weights("owner/name")
    check_weights(folder)
    print(*sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()))
except ModelNotLoaded as error:
    print(error)
"""


def download(hub_url: str, cache: Path, *, offline: bool = False) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_ENDPOINT": hub_url, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "*"}
    environment |= {"HF_HUB_OFFLINE": "1"} if offline else {}  # without it, the library tries for half a minute
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()[-1]


def test_from_a_hub_only_those_files_come_and_without_it_what_is_there_is_used(tmp_path: Path, zimage: Any) -> None:
    source = tmp_path / "repository"
    zimage.save_pretrained(source)
    zimage.transformer.save_pretrained(source / "transformer", variant="fp16")
    (source / "everything.safetensors").write_bytes(b"24 GB")
    (source / "transformer" / "pytorch_model.bin").write_bytes(b"a pickle")
    (source / "README.md").write_text("hello")
    needed = {
        str(file.relative_to(source))
        for file in source.rglob("*")
        if file.is_file() and not file.name.endswith((".bin", ".md")) and "fp16" not in file.name
    } - {"everything.safetensors"}
    with Hub("owner/name", source) as hub:
        assert set(download(hub.url, tmp_path / "cache").split()) == needed
        assert hub.downloaded == needed
    assert set(download(hub.url, tmp_path / "cache", offline=True).split()) == needed
    assert "owner/name is no folder, and could not be had" in download(hub.url, tmp_path / "empty", offline=True)
