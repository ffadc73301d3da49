"""LoRAs on the device: loaded when first needed, switched between forwards; the least recently used are dropped."""

from __future__ import annotations

import re
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
import torch

from storage.predictions.parameters import Lora
from worker.engine.interface import DrawingFailed

log = structlog.get_logger(__name__)

MAX_ON_DEVICE = 8  # a LoRA of rank 16 for Z-Image takes about 80 MB in bfloat16
UNKNOWN = (Lora(""),)  # equal to what no request asks for: the next `switch` sets it right
PART = re.compile(r"\.(?:lora|lokr|hada|alpha|dora|diff)")  # what follows the name of a part
SHOWN_NAMES = 3  # of the parts that don't fit


class Loras:
    """The LoRAs of one pipeline. A pipeline that never draws with one stays as diffusers made it."""

    def __init__(self, pipeline: Any, files: Mapping[str, Path], *, max_on_device: int = MAX_ON_DEVICE) -> None:
        self._pipeline = pipeline
        self._files = files
        self._max_on_device = max_on_device
        self._loaded: OrderedDict[str, str] = OrderedDict()  # name → the name that diffusers knows it by
        self._notes: dict[str, str] = {}  # name → what of the file has no effect
        self._numbered = 0
        self._set_aside: list[tuple[torch.nn.Module, str, torch.nn.Module]] = []  # parent, name in it, peft's layer
        self.active: tuple[Lora, ...] = ()

    def load(self, loras: tuple[Lora, ...]) -> tuple[str, ...]:
        """Bring these onto the device. Returns lines for `logs` about files of which only a part fits the model.

        Raises DrawingFailed if there is no such LoRA, or it doesn't fit the model at all.
        """
        for lora in loras:
            if lora.name in self._loaded:
                self._loaded.move_to_end(lora.name)
            else:
                self._load(lora.name)
        names = {lora.name for lora in loras}
        unused = [name for name in self._loaded if name not in names]
        for name in unused[: max(0, len(self._loaded) - self._max_on_device)]:
            self._drop(name)
        return tuple(self._notes[lora.name] for lora in loras if lora.name in self._notes)

    def switch(self, loras: tuple[Lora, ...]) -> None:
        """Let the model draw with exactly these from now on. Raises what `load` raises."""
        if loras == self.active:
            return
        self.load(loras)
        with self._changing_adapters():
            if not loras:
                self._pipeline.disable_lora()
                self._set_layers_aside()
            else:
                self._pipeline.enable_lora()
                adapters = [self._loaded[lora.name] for lora in loras]
                self._pipeline.set_adapters(adapters, [lora.scale for lora in loras])
        self.active = loras

    def drop_all(self) -> None:
        """Take them all off the device."""
        for name in list(self._loaded):
            self._drop(name)

    def _load(self, name: str) -> None:
        if name not in self._files:
            known = ", ".join(sorted(each for each in self._files if "://" not in each)) or "none"
            raise DrawingFailed(f'This model has no LoRA "{_shown(name)}"; it has {known}.')
        file = self._files[name]
        adapter = f"lora{self._numbered}"
        self._numbered += 1
        try:
            weights = self._pipeline.lora_state_dict(str(file))
            unused = _unused_parts(name, weights[0] if isinstance(weights, tuple) else weights, self._pipeline)
            with self._changing_adapters():
                self._pipeline.load_lora_weights(str(file), adapter_name=adapter)
        except DrawingFailed:
            raise
        except Exception as error:  # a damaged file, other shapes: the libraries raise all kinds
            self._forget(adapter)
            reason = " ".join(str(_first_cause(error)).split())[:300]
            raise DrawingFailed(f'The LoRA "{_shown(name)}" does not fit this model: {reason}') from error
        self._loaded[name] = adapter
        self.active = UNKNOWN  # diffusers has made the new one the active one
        if unused:
            self._notes[name] = f'Only a part of the LoRA "{_shown(name)}" is used. No part of this model is {unused}'
        log.info("lora.loaded", name=_shown(name), on_device=len(self._loaded), unused=unused or None)

    def _drop(self, name: str) -> None:
        self._forget(self._loaded.pop(name))
        self.active = UNKNOWN
        log.info("lora.dropped", name=_shown(name))

    def _forget(self, adapter: str) -> None:
        if any(adapter in getattr(model, "peft_config", {}) for model in self._models()):
            with self._changing_adapters():
                self._pipeline.delete_adapters(adapter)

    def _models(self) -> list[torch.nn.Module]:
        """The parts of the pipeline that LoRAs change."""
        parts = (getattr(self._pipeline, part, None) for part in self._pipeline._lora_loadable_modules)
        return [part for part in parts if part is not None]

    @contextmanager
    def _changing_adapters(self) -> Iterator[None]:
        """Tensors made in inference mode could not be changed later; and peft warns of what is meant here."""
        self._put_layers_back()
        with torch.inference_mode(False), warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=UserWarning, module="peft")
            yield

    def _set_layers_aside(self) -> None:
        """Let the model call its own layers. Also a layer of peft that is switched off costs time.

        On an H200, a step of one picture of 512² took twice as long with them (docs/benchmarks-gpu.md).
        """
        from peft.tuners.tuners_utils import BaseTunerLayer

        for model in self._models():
            for parent in list(model.modules()):
                for name, child in list(parent.named_children()):
                    if isinstance(child, BaseTunerLayer):
                        parent._modules[name] = child.get_base_layer()
                        self._set_aside.append((parent, name, child))

    def _put_layers_back(self) -> None:
        for parent, name, layer in self._set_aside:
            parent._modules[name] = layer
        self._set_aside.clear()


def _shown(name: str) -> str:
    """A name, or a URL without its query, which may hold a key."""
    return name.partition("?")[0]


def _first_cause(error: BaseException) -> BaseException:
    """diffusers' clean-up after an error may raise another one."""
    while error.__context__ is not None:
        error = error.__context__
    return error


def _unused_parts(name: str, weights: Mapping[str, object], pipeline: Any) -> str:
    """Names of parts in the file that this pipeline doesn't have; "" if it has them all.

    Raises DrawingFailed if it has none of them.
    """
    modules = {
        f"{part}.{module}"
        for part in pipeline._lora_loadable_modules
        if (model := getattr(pipeline, part, None)) is not None
        for module, _ in model.named_modules()
    }
    asked = {PART.split(key)[0] for key in weights}
    missing = sorted(asked - modules)
    shown = ", ".join(missing[:SHOWN_NAMES]) or "nothing"
    if len(missing) > SHOWN_NAMES:
        shown += f" and {len(missing) - SHOWN_NAMES} more"
    if not asked & modules:
        raise DrawingFailed(f'The LoRA "{_shown(name)}" fits this model nowhere: it is for {shown}.')
    return shown if missing else ""
