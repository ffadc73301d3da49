"""From a catalog entry to an engine that can draw: find the weights, read them, set them up on the device."""

from __future__ import annotations

import os
import time
from collections import ChainMap
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import structlog

from storage.catalog import Model
from storage.predictions.parameters import Parameters
from worker.engine.device.choose import choose_device
from worker.engine.engines import engine_for
from worker.engine.interface import Engine, ModelNotLoaded
from worker.engine.loading.lora_files import find_loras
from worker.engine.loading.parts import complete, left_out_parts, missing_parts
from worker.engine.loading.pipeline_index import INDEX, read_index
from worker.engine.loading.quantization import quantized
from worker.engine.loading.read_ahead import reading_ahead
from worker.engine.loading.single_file import find_config, find_single_file, read_pipeline
from worker.engine.loading.weights import TRANSFORMER, check_weights, choose_variants, find_weights, weight_files

PURPOSES = {"image": "image-to-image pipeline", "mask": "inpainting pipeline"}

log = structlog.get_logger(__name__)


def load_engine(
    model: Model,
    *,
    device: str,
    downloads: Mapping[str, Path] = MappingProxyType({}),
    after: Callable[[str], None] = lambda phase: None,
) -> Engine:
    """Bring a model of the catalog into memory. `after` is called after each phase: imports, weights, device.

    `downloads`: URL → file, of LoRAs that requests name by URL; asked when a drawing begins. Raises ModelNotLoaded.
    """
    if model.engine == "blank":
        from worker.engine.blank import BlankEngine

        return BlankEngine(model.blank)
    return load_diffusers(model, device=device, downloads=downloads, after=after)


def load_diffusers(
    model: Model,
    *,
    device: str,
    downloads: Mapping[str, Path] = MappingProxyType({}),
    after: Callable[[str], None] = lambda phase: None,
) -> Engine:
    """Import torch and diffusers and read the weights. Raises ModelNotLoaded."""
    if model.is_single_file:
        weights = find_single_file(model.source)
        folder, files = find_config(weights, model.config), [weights]
    else:
        without = {TRANSFORMER} if model.device.gguf else ()  # most of the download
        folder = find_weights(model.source, variant=model.variant, without=without)
        check_weights(folder, model.variant)
        files = weight_files(folder, model.variant)
        if model.device.gguf:
            files = [*(file for file in files if file.parent.name != TRANSFORMER), Path(model.device.gguf)]
    index = read_index(folder)
    name = str(index["_class_name"])
    if missing := missing_parts(index):
        raise ModelNotLoaded(
            f"{folder} has no {missing[0]}, which a {name} needs: copy it into the folder, with its line in {INDEX}"
        )
    engine_for(name).check_dtype(model.dtype)
    loras = find_loras(model)
    with reading_ahead(files):
        every_lora = ChainMap(dict(loras), downloads)  # type: ignore[arg-type] # both are only read
        return _load(model, folder, name, every_lora, device=device, after=after)


def _load(
    model: Model,
    folder: Path,
    name: str,
    loras: Mapping[str, Path],
    *,
    device: str,
    after: Callable[[str], None],
) -> Engine:
    began = time.monotonic()
    if model.device.parallel_loading:
        os.environ["HF_ENABLE_PARALLEL_LOADING"] = "1"  # read when diffusers is imported
    try:
        import diffusers
        import torch

        from worker.engine.loading.cpu_threads import limit_threads
        from worker.engine.loading.placement import set_up_on_device

        engine_class = engine_for(name).load()
    except (ImportError, OSError) as error:  # for example, torch can't write its cache folder
        raise ModelNotLoaded(f"torch and diffusers can't be imported: {_first_line(error)}") from error

    after("imports")
    imported = time.monotonic()
    _silence_progress_bars()
    pipeline_class: Any = getattr(diffusers, name, None)
    if pipeline_class is None:
        raise ModelNotLoaded(f"{folder} holds a {name}, which diffusers {diffusers.__version__} does not know")
    chosen = choose_device(device)
    if chosen.type == "cpu":
        limit_threads()
    try:
        pipeline = _read(model, pipeline_class, folder, dtype=getattr(torch, model.dtype))
        after("weights")
        set_up_on_device(pipeline, model.device, chosen)
    except ModelNotLoaded:
        raise
    except Exception as error:  # a damaged folder: the libraries raise all kinds
        cause = error.__cause__ or error.__context__  # for a damaged file, the cause says more
        because = f" ({_first_line(cause)})" if cause is not None else ""
        raise ModelNotLoaded(f"{folder} can't be loaded: {_first_line(error)}{because}") from error
    engine: Engine = engine_class(pipeline, device=chosen, attention=model.device.attention, loras=loras)
    if model.loras and not hasattr(pipeline, "load_lora_weights"):
        raise ModelNotLoaded(f"diffusers {diffusers.__version__} has no LoRAs for a {name}: leave `loras` out")
    for picture in model.takes:
        if picture not in engine.takes:
            raise ModelNotLoaded(
                f"diffusers {diffusers.__version__} has no {PURPOSES[picture]} for a {name}: "
                f'leave "{picture}" out of `takes` in models.toml'
            )
    if model.limits.max_input_images > engine.max_images:
        raise ModelNotLoaded(
            f"a {name} starts from {'one image' if engine.max_images == 1 else f'{engine.max_images} images at most'}: "
            f"max_input_images in models.toml can't be {model.limits.max_input_images}"
        )
    if model.device.compiles:
        try:
            warm_up(engine, model.typical)
        except Exception as error:  # no compiler, no disk space for its output, a device that is too small
            raise ModelNotLoaded(
                f'compilation (compile, or preset = "fast") isn\'t available here: {_first_line(error)}'
            ) from error
    after("device")
    log.info(
        "engine.loaded",
        model=model.name,
        pipeline=name,
        device=engine.device,
        import_s=round(imported - began, 2),
        load_s=round(time.monotonic() - imported, 2),
    )
    return engine


def _read(model: Model, pipeline_class: Any, folder: Path, **more: Any) -> Any:
    """Read the pipeline's parts into main memory."""
    more |= left_out_parts(pipeline_class.__name__)
    if model.is_single_file:
        return read_pipeline(pipeline_class, Path(model.source).expanduser(), folder, **more)
    pipeline = pipeline_class.from_pretrained(
        folder,
        variant=choose_variants(folder, model.variant).variant or None,
        use_safetensors=True,
        local_files_only=True,
        **more,
        **quantized(model, folder),
        **({"device_map": model.device.device_map} if model.device.device_map else {}),
    )
    complete(pipeline, folder)
    return pipeline


def _silence_progress_bars() -> None:
    """Both libraries write progress bars into the log at every load."""
    import diffusers.utils.logging
    import transformers.utils.logging

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()


def warm_up(engine: Engine, typical: Parameters) -> None:
    """Take the steps that trigger compilation: one drawing, two, and two with captions of different length (a mask).

    Raises what the engine raises.
    """
    longer = "word " * 64
    for prompts in ([""], ["", ""], ["", longer]):
        asked = [replace(typical, prompt=prompt, num_inference_steps=1) for prompt in prompts]
        engine.step([engine.begin(parameters) for parameters in asked], lambda: None)


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
