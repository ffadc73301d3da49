"""Loading: what works, and what is wrong with a folder in words."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from storage.catalog import DeviceSettings, Model
from storage.predictions.parameters import Parameters
from tests.conftest import REPOSITORY
from tests.engine.tiny_pipelines import save, tiny_latent_consistency, tiny_stable_diffusion
from worker.engine import ModelNotLoaded, load_engine
from worker.engine.loading.load import warm_up
from worker.engine.prompts.embeddings import EmbeddingCache
from worker.engine.zimage import ZImageEngine


def entry(source: Path, **more: Any) -> Model:
    return Model(name="test/tiny", source=str(source), **({"dtype": "float32"} | more))


def test_a_folder_of_zimage_is_stepped_and_any_other_runs_to_its_end(zimage_folder: Path, tmp_path: Path) -> None:
    engine = load_engine(entry(zimage_folder), device="cpu")
    assert (engine.joins_midway, engine.device) == (True, "cpu")
    other = load_engine(entry(save(tiny_stable_diffusion(), tmp_path / "sd")), device="cpu")
    assert not other.joins_midway


def test_bfloat16_is_the_default_and_an_attention_back_end_can_be_named(zimage_folder: Path) -> None:
    model = Model(name="test/tiny", source=str(zimage_folder), device=DeviceSettings(attention="native"))
    engine: Any = load_engine(model, device="cpu")
    assert engine._pipeline.transformer.dtype == torch.bfloat16
    asked = Parameters(prompt="a", width=64, height=64, num_inference_steps=1, guidance_scale=0.0, seed=0)
    drawing = engine.begin(asked)
    engine.step([drawing], lambda: None)
    assert engine.decode(drawing)()[0].size == (64, 64)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"dtype": "float16"}, "black images"),
        ({"device": DeviceSettings(attention="no-such")}, "attention"),
        ({"device": DeviceSettings(offload="model")}, "there is none"),
    ],
)
def test_a_setting_that_can_not_be_had_is_refused_in_words(
    zimage_folder: Path, more: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ModelNotLoaded, match=reason):
        load_engine(entry(zimage_folder, **more), device="cpu")


def test_a_cache_folder_of_torch_that_can_not_be_made_is_told_in_words(zimage_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    program = f"""
from storage.catalog import Model
from worker.engine import ModelNotLoaded, load_engine

try:
    load_engine(Model(name="a/b", source="{zimage_folder}", dtype="float32"), device="cpu")
except ModelNotLoaded as error:
    print(error)
"""
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "file" / "cache")}
    said = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True
    )
    assert said.stdout.startswith("torch and diffusers can't be imported: NotADirectoryError")


def test_compiling_without_a_compiler_is_told_in_words(zimage_folder: Path, tmp_path: Path) -> None:
    program = f"""
from storage.catalog import DeviceSettings, Model
from worker.engine import ModelNotLoaded, load_engine

try:
    device = DeviceSettings(preset="fast")
    load_engine(Model(name="a/b", source="{zimage_folder}", dtype="float32", device=device), device="cpu")
except ModelNotLoaded as error:
    print(error)
"""
    environment = {name: value for name, value in os.environ.items() if name not in {"CC", "CXX"}}
    environment |= {"PATH": str(tmp_path), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    said = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr
    assert 'compilation (compile, or preset = "fast") isn\'t available here' in said.stdout
    assert "compiler" in said.stdout


def test_a_model_that_can_not_be_compiled_for_want_of_space_is_told_in_words(
    zimage_folder: Path, tmp_path: Path
) -> None:
    program = f"""
import resource
import tempfile

from storage.catalog import DeviceSettings, Model
from worker.engine import ModelNotLoaded, load_engine

tempfile.gettempdir()  # looked for while it can be written
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # every write to a file fails, as on a full disk
try:
    model = Model(name="a/b", source="{zimage_folder}", dtype="float32", device=DeviceSettings(compile=True))
    load_engine(model, device="cpu")
except ModelNotLoaded as error:
    print(error)
"""
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    said = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True
    )
    assert said.stdout.startswith('compilation (compile, or preset = "fast") isn\'t available here: ')


@pytest.mark.parametrize("parallel", [True, False])
def test_files_of_a_part_are_read_at_the_same_time_where_that_is_asked_for(
    zimage: Any, tmp_path: Path, parallel: bool
) -> None:
    zimage.save_pretrained(tmp_path / "sharded", max_shard_size="200KB")
    assert len(list((tmp_path / "sharded" / "transformer").glob("*.safetensors"))) > 1
    program = f"""
from storage.catalog import DeviceSettings, Model
from worker.engine import load_engine

device = DeviceSettings(parallel_loading={parallel})
load_engine(Model(name="a/b", source="{tmp_path}/sharded", dtype="float32", device=device), device="cpu")

import diffusers.models.modeling_utils
print(diffusers.models.modeling_utils.HF_ENABLE_PARALLEL_LOADING)
"""
    said = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert said.stdout.split()[-1] == str(parallel)


def test_the_steps_that_compile_are_taken_before_the_first_claim(zimage: Any) -> None:
    samples: list[int] = []
    masked: list[bool] = []
    watches = [
        zimage.transformer.register_forward_pre_hook(lambda module, given: samples.append(len(given[0]))),
        zimage.transformer.layers[0].register_forward_pre_hook(
            lambda module, given: masked.append(given[1] is not None)
        ),
    ]
    try:
        warm_up(ZImageEngine(zimage, device=torch.device("cpu")), Model(name="a/b").typical)
    finally:
        for watch in watches:
            watch.remove()
    assert samples == [1, 2, 2]
    assert masked[-1]
    assert not masked[0]


def test_a_device_that_is_not_there_is_refused_in_words(zimage_folder: Path) -> None:
    with pytest.raises(ModelNotLoaded, match="DEVICE=nonsense"):
        load_engine(entry(zimage_folder), device="nonsense")


@pytest.mark.parametrize(
    "damage", ["missing", "index", "class", "part", "header", "tensors", "git", "corrupt", "pickle"]
)
def test_a_damaged_folder_is_refused_in_words(zimage_folder: Path, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "model"
    if damage != "missing":
        shutil.copytree(zimage_folder, folder)
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    reason = {
        "missing": "there is no folder",
        "index": "no diffusers folder",
        "class": "NoSuchPipeline, which diffusers",
        "part": "has no vae",
        "header": "cut short after 1000 bytes",
        "tensors": "is cut short: it has ",
        "git": "its header can't be read",
        "corrupt": "can't be loaded",
        "pickle": "a pickle, which may run any code",
    }[damage]
    if damage == "index":
        (folder / "model_index.json").write_text("{")
    elif damage == "class":
        index = folder / "model_index.json"
        index.write_text(json.dumps(json.loads(index.read_text()) | {"_class_name": "NoSuchPipeline"}))
    elif damage == "part":
        shutil.rmtree(folder / "vae")
    elif damage == "header":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "tensors":
        weights.write_bytes(weights.read_bytes()[:-1])
    elif damage == "git":  # what lies there where LFS was not installed
        weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5490696\n")
    elif damage == "corrupt":
        weights.write_bytes(weights.read_bytes().replace(b'"F32"', b'"F99"'))
    elif damage == "pickle":
        weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(ModelNotLoaded, match=reason) as caught:
        load_engine(entry(folder), device="cpu")
    assert "\n" not in str(caught.value)


def test_the_cache_of_prompts_counts_bytes_and_forgets_the_least_recently_used() -> None:
    encoded: list[str] = []

    def encode(text: str) -> torch.Tensor:
        encoded.append(text)
        return torch.zeros(25)  # 100 bytes

    cache = EmbeddingCache(encode, max_bytes=250)
    first = cache.get("a")
    cache.get("b")
    assert cache.get("a") is first
    cache.get("c")  # b goes
    assert cache.size_bytes == 200
    cache.get("b")
    assert encoded == ["a", "b", "c", "b"]


def test_a_model_that_can_not_take_what_its_entry_declares_is_refused_in_words(
    zimage_folder: Path, tmp_path: Path
) -> None:
    assert set(load_engine(entry(zimage_folder, takes=("image", "mask")), device="cpu").takes) == {"image", "mask"}
    folder = save(tiny_latent_consistency(), tmp_path / "lcm")
    assert set(load_engine(entry(folder, takes=("image",)), device="cpu").takes) == {"image"}
    with pytest.raises(
        ModelNotLoaded, match=r'has no inpainting pipeline for a LatentConsistencyModelPipeline: leave "mask" out'
    ):
        load_engine(entry(folder, takes=("image", "mask")), device="cpu")
