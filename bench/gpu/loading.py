"""From a folder to a model on the device, and from the device to main memory and back."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
import time
from pathlib import Path

import torch

from bench.cold_load import set_state
from bench.gpu.subject import Subject
from bench.gpu.table import Table
from storage.catalog import Model
from worker.engine import load_engine
from worker.engine.loading.weights import weight_files


def measure(subject: Subject, *, keep: Path | None = None) -> Table:
    """The folder is left in `keep`, where one is given."""
    table = Table("Loading, standby and waking", ["what", "seconds", "GB/s"])
    size = sum(
        weights.nbytes
        for part in (subject.pipeline.transformer, subject.pipeline.text_encoder, subject.pipeline.vae)
        for weights in part.parameters()
    )
    folder = keep or Path(tempfile.mkdtemp(prefix="dr-bench-gpu-"))
    folder.mkdir(exist_ok=True)
    try:
        if shutil.disk_usage(folder).free < 1.3 * size:
            table.notes.append(f"Not measured: {folder} has no room for {size / 1e9:.0f} GB.")
            return table
        began = time.perf_counter()
        subject.pipeline.save_pretrained(folder)
        _add(table, "write the folder", time.perf_counter() - began, size)
        _standby(subject, table, size)
        _load(subject, table, folder, size)
    finally:
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    return table


def _load(subject: Subject, table: Table, folder: Path, size: int) -> None:
    """Three loads in this process, so without the imports. The pipeline of the subject is given up for it."""
    dtype = str(subject.pipeline.transformer.dtype).removeprefix("torch.")
    subject.pipeline = None
    files = weight_files(folder)
    began = time.perf_counter()
    os.sync()
    table.figures["sync_s"] = time.perf_counter() - began
    for state in ("in memory", "on the disk"):
        gc.collect()
        if subject.is_cuda:
            torch.cuda.empty_cache()
        set_state(files, state)
        began = time.perf_counter()
        engine = load_engine(Model(name="bench/gpu", source=str(folder), dtype=dtype), device=str(subject.device))
        subject.wait()
        _add(table, f"load with our loader, weights {state}", time.perf_counter() - began, size)
        began = time.perf_counter()
        drawing = engine.begin(subject.asked(subject.sides[0]))
        engine.step([drawing], lambda: None)
        _add(table, f"the first prompt and step after it ({state})", time.perf_counter() - began, 0)
        del engine, drawing


def _standby(subject: Subject, table: Table, size: int) -> None:
    """The plain way (`pipeline.to`), and through pinned memory that is kept."""
    if not subject.is_cuda:
        table.notes.append("Standby: the weights are in main memory anyway.")
        return
    for what, target in (("to main memory, pipeline.to", "cpu"), ("back, pipeline.to", subject.device)):
        began = time.perf_counter()
        subject.pipeline.to(target)
        subject.wait()
        _add(table, what, time.perf_counter() - began, size)
    weights = list(subject.pipeline.transformer.parameters())
    part = sum(each.nbytes for each in weights)
    began = time.perf_counter()
    pinned = [torch.empty(each.shape, dtype=each.dtype, pin_memory=True) for each in weights]
    _add(table, "pin main memory for the transformer", time.perf_counter() - began, part)
    for what in ("the transformer to pinned memory", "the transformer back from it"):
        began = time.perf_counter()
        for each, copy in zip(weights, pinned, strict=True):
            if what.endswith("memory"):
                copy.copy_(each.data, non_blocking=True)
            else:
                each.data.copy_(copy, non_blocking=True)
        subject.wait()
        _add(table, what, time.perf_counter() - began, part)


def _add(table: Table, what: str, seconds: float, size: int) -> None:
    table.rows.append([what, f"{seconds:.2f}", f"{size / 1e9 / seconds:.1f}" if size else ""])
    table.figures[f"{what}.s"] = seconds
    print(table.rows[-1], flush=True)
