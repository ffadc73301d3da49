"""Weights of fewer bits draw nearly the same picture: by torchao while they are read, and from a GGUF file."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from pydantic import ValidationError
from safetensors.torch import load_file

from storage.catalog import DeviceSettings
from storage.predictions.parameters import Parameters
from tests.conftest import REPOSITORY
from tests.engine.quantized_pocket import draw, pocket
from worker.engine import ModelNotLoaded, load_engine

POCKET = REPOSITORY / "models" / "pocket"
ASKED = Parameters("a red circle on a blue background", 128, 128, 8, 0.0, seed=1)
NEARLY = 4.0  # of 255, the mean over all pixels

# What diffusers calls the weights, and what they are called in a file made for ComfyUI.
NAMES = {
    "all_final_layer.2-1.": "final_layer.",
    "all_x_embedder.2-1.": "x_embedder.",
    ".attention.norm_k.weight": ".attention.k_norm.weight",
    ".attention.norm_q.weight": ".attention.q_norm.weight",
    ".attention.to_out.0.weight": ".attention.out.weight",
}


def write_gguf(path: Path) -> None:
    """The pocket model's transformer in 8 bits, as the files that people share: q, k and v in one, 2-D weights only."""
    weights = {}
    for name, tensor in load_file(POCKET / "transformer" / "diffusion_pytorch_model.safetensors").items():
        for ours, theirs in NAMES.items():
            name = name.replace(ours, theirs)
        weights[name] = tensor.float().numpy()
    for name in [name for name in weights if name.endswith(".attention.to_q.weight")]:
        layer = name.removesuffix("to_q.weight")
        parts = [weights.pop(f"{layer}to_{part}.weight") for part in "qkv"]
        weights[f"{layer}qkv.weight"] = np.concatenate(parts)
    kinds = gguf.GGMLQuantizationType
    writer = gguf.GGUFWriter(path, "lumina2")
    for name, array in weights.items():
        small = array.ndim == 2 and name.endswith(".weight") and array.shape[1] % 32 == 0
        kind = kinds.Q8_0 if small else kinds.F32
        writer.add_tensor(name, gguf.quantize(array, kind) if small else array, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_file_gives_the_transformer_and_the_folder_the_rest(tmp_path: Path) -> None:
    _, plain = draw(pocket())
    file, folder = tmp_path / "pocket-Q8_0.gguf", tmp_path / "pocket"
    write_gguf(file)
    shutil.copytree(POCKET, folder)
    (folder / "transformer" / "diffusion_pytorch_model.safetensors").unlink()

    transformer, picture = draw(pocket(folder, gguf=str(file)))

    assert transformer.layers[0].attention.to_q.weight.quant_type == gguf.GGMLQuantizationType.Q8_0
    assert 0 < np.abs(picture - plain).mean() < NEARLY


@pytest.fixture(scope="session")
def torchao(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with torchao: where it is installed, diffusers imports it at every start, and it talks a lot."""
    folder = tmp_path_factory.mktemp("torchao")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
    installed = subprocess.run(
        [*pip, "-c", str(REPOSITORY / "constraints.txt"), "torchao"], capture_output=True, timeout=300, check=False
    )
    if installed.returncode != 0:
        pytest.skip("pip could not install torchao: no index at hand?")
    return folder


@pytest.mark.parametrize("bits", ["int8", "float8"])
def test_torchao_quantizes_the_transformer_while_it_is_read(torchao: Path, tmp_path: Path, bits: str) -> None:
    program = f"""
import numpy
from tests.engine.quantized_pocket import draw, pocket

transformer, picture = draw(pocket(quantization="{bits}"))
numpy.save("{tmp_path}/picture.npy", picture)
print(type(transformer.layers[0].attention.to_q.weight).__name__)
"""
    environment = os.environ | {"PYTHONPATH": f"{REPOSITORY}:{torchao}"}
    said = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True
    )
    assert said.stdout.split()[-1] == f"{bits.capitalize()}Tensor"
    _, plain = draw(pocket())
    assert 0 < np.abs(np.load(tmp_path / "picture.npy") - plain).mean() < NEARLY


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "there is no file"), (b"GGUF but no more", "can't be read as a ZImageTransformer")]
)
def test_a_gguf_file_that_can_not_be_read_is_told_in_words(tmp_path: Path, content: bytes | None, reason: str) -> None:
    file = tmp_path / "some.gguf"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ModelNotLoaded, match=reason):
        load_engine(pocket(gguf=str(file)), device="cpu")


@pytest.mark.parametrize(("asked", "package"), [({"quantization": "int8"}, "torchao"), ({"gguf": __file__}, "gguf")])
def test_a_package_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any], package: str
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name in ("gguf", "torchao") else find(name, *more)
    )
    with pytest.raises(ModelNotLoaded, match=f"pip install -c constraints.txt {package}`"):
        load_engine(pocket(**asked), device="cpu")


def test_weights_are_quantized_once() -> None:
    with pytest.raises(ValidationError, match="quantized already"):
        DeviceSettings(gguf="a.gguf", quantization="int8")
