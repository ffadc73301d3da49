"""What a LoRA costs: reading it, switching it on and off, and steps with one and with several."""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from bench.gpu.subject import Subject
from bench.gpu.table import Table, ms
from bench.gpu.timing import step_s
from storage.predictions.parameters import Lora
from worker.engine.zimage import ZImageEngine

RANK = 16
NAMES = ("one", "another")


def measure(subject: Subject) -> Table:
    table = Table(f"LoRAs of rank {RANK}", ["what", "ms", "of a step without a LoRA"])
    transformer = subject.pipeline.transformer
    subject.pipeline.transformer = copy.deepcopy(transformer)  # adapters change a model for good
    try:
        with tempfile.TemporaryDirectory(prefix="dr-bench-loras-") as folder:
            files = {name: _written(subject, Path(folder) / name) for name in NAMES}
            size = files[NAMES[0]].stat().st_size / 1e6
            engine = ZImageEngine(subject.pipeline, device=subject.device, loras=files)
            _measure(subject, engine, table)
    finally:
        subject.pipeline.transformer = transformer
    table.notes.append(
        f"A file has {size:.0f} MB: the attention and the feed-forward part of every layer. Steps are of pictures of"
        f" {subject.sides[0]}². Two drawings with different LoRAs take a forward pass each, with a switch between."
    )
    return table


def _measure(subject: Subject, engine: ZImageEngine, table: Table) -> None:
    plain = subject.asked(subject.sides[0])
    one, another = (replace(plain, loras=(Lora(name),)) for name in NAMES)
    both = replace(plain, loras=tuple(Lora(name, 0.5) for name in NAMES))
    alone = step_s(subject, engine, [engine.begin(plain)])
    _add(table, "a step without a LoRA", alone, alone)
    _add(table, "read a LoRA and bring it onto the device", _timed(subject, lambda: engine.begin(one)), alone)
    engine.begin(another)
    switch = engine._loras.switch
    switch(one.loras)
    _add(table, "switch to another LoRA", _timed(subject, lambda: switch(another.loras)), alone)
    _add(table, "switch it off", _timed(subject, lambda: switch(())), alone)
    for what, asked in {
        "a step without a LoRA, after LoRAs were used": [plain],
        "a step with one": [one],
        "a step with two": [both],
        "a step of two drawings without a LoRA": [plain, plain],
        "a step of two drawings with the same": [one, one],
        "a step of two drawings with different ones": [one, another],
    }.items():
        drawings: list[Any] = [engine.begin(each) for each in asked]
        _add(table, what, step_s(subject, engine, drawings), alone)


def _written(subject: Subject, folder: Path) -> Path:
    model = copy.deepcopy(subject.pipeline.transformer)
    targets = ["to_q", "to_k", "to_v", "to_out.0", "w1", "w2", "w3"]
    model.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=targets))
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "lora_" in name:
                weights.normal_(std=0.01)
    type(subject.pipeline).save_lora_weights(folder, transformer_lora_layers=get_peft_model_state_dict(model))
    return folder / "pytorch_lora_weights.safetensors"


def _timed(subject: Subject, work: Callable[[], object]) -> float:
    subject.wait()
    began = time.perf_counter()
    work()
    subject.wait()
    return time.perf_counter() - began


def _add(table: Table, what: str, seconds: float, alone: float) -> None:
    table.rows.append([what, ms(seconds), f"{seconds / alone:.2f}"])
    table.figures[f"{what}.s"] = seconds
    print(table.rows[-1], flush=True)
