"""The catalog, the weights of each model, and the device that is to draw with them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cli.doctor.finding import Finding, broken, first_line, warning, well
from cli.up.missing_weights import missing_weights
from storage.catalog import Catalog, Model, load_catalog
from storage.errors import OperatorError
from worker.engine import ModelNotLoaded
from worker.engine.loading.weights import is_path, weight_files

# In a process of its own: torch takes seconds to import, and a broken driver may end the process.
LOOK_AT_DEVICE = (
    "import json, sys; from worker.engine.device.choose import describe; print(json.dumps(describe(sys.argv[1])))"
)
LOOK_TIMEOUT_S = 120
MAIN_MEMORY_IS_ENOUGH_BYTES = 1_000_000_000  # weights below this draw in bearable time on a CPU


def check_models(path: Path, device: str, *, has_worker: bool) -> Iterator[Finding]:
    """`has_worker`: workers shall run on this machine, so the device and the weights are looked at."""
    try:
        catalog = load_catalog(path)
    except OperatorError as error:
        yield broken("models", first_line(error), f"correct {path}; docs/models.md lists all keys")
        return
    yield from _versions(catalog)
    if not has_worker:
        yield well("models", f"{len(catalog.models)} in {path}; weights are not looked at without a worker here")
        return
    problems = missing_weights(catalog)
    for line in problems:
        yield broken("models", line, "copy the whole folder (a diffusers folder with safetensors), or correct `source`")
    if not problems:
        yield well("models", f"{len(catalog.models)} in {path}, the weights in folders are whole")
    for model in catalog.models.values():
        if model.engine == "diffusers" and _is_on_hub(model):
            yield well(
                "models", f"{model.name} comes from the hub: its worker downloads {model.source} at its first start"
            )
    yield from _device(catalog, device)


def _versions(catalog: Catalog) -> Iterator[Finding]:
    counts = Counter(model.version for model in catalog.models.values())
    for version, count in counts.items():
        if count > 1:
            yield warning(
                "models",
                f"version {version!r} is that of {count} models: Replicate's clients send the version alone",
                "give each model another `version` in models.toml",
            )


def _device(catalog: Catalog, device: str) -> Iterator[Finding]:
    if not any(model.engine == "diffusers" for model in catalog.models.values()):
        return
    found = _look(device)
    if "error" in found:
        yield broken("device", found["error"], "check DEVICE, the driver (nvidia-smi) and which torch is installed")
        return
    if found["memory_bytes"] is None:
        heavy = [model for model in catalog.models.values() if _size(model) > MAIN_MEMORY_IS_ENOUGH_BYTES]
        text = f"draws on {found['name']}, without a GPU"
        if heavy:
            yield warning(
                "device", f"{text}: {heavy[0].name} will take minutes for a picture", "install a CUDA build of torch"
            )
        else:
            yield well("device", text)
        return
    yield well("device", f"{found['name']}, {found['memory_bytes'] / 1e9:.0f} GB")
    for model in catalog.models.values():
        if model.dtype == "bfloat16" and model.engine == "diffusers" and not found["bf16"]:
            yield broken(
                "device", f"{found['name']} has no bfloat16, which {model.name} asks for", 'set dtype = "float16"'
            )
        if _size(model) > found["memory_bytes"] and not model.device.offload and not model.device.device_map:
            yield broken(
                "device",
                f"{model.name} has {_size(model) / 1e9:.0f} GB of weights, more than {found['name']} has memory",
                'set device = { offload = "model" } or a quantization for it',
            )


def _look(device: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", LOOK_AT_DEVICE, device],
        capture_output=True,
        text=True,
        timeout=LOOK_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        return {"error": (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _is_on_hub(model: Model) -> bool:
    return not (model.is_single_file or is_path(model.source) or Path(model.source).expanduser().is_dir())


def _size(model: Model) -> int:
    """Bytes of the weights that are read from this machine; 0 if there are none, or they can't be read."""
    source = Path(model.source).expanduser()
    if not model.source or not source.exists():
        return 0
    try:
        files = [source] if model.is_single_file else weight_files(source, model.variant)
    except ModelNotLoaded:
        return 0
    return sum(file.stat().st_size for file in files)
