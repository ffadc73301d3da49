"""Ways to make a step quicker, each beside the plain one: how quick, how true, and how long until the first picture."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import torch

from bench.gpu.company import draw, psnr
from bench.gpu.graphs import Graphed
from bench.gpu.subject import Subject
from bench.gpu.table import Table, ms
from bench.gpu.timing import step_s

BATCHES = (1, 4)


def measure(subject: Subject, *, only: tuple[str, ...] = ()) -> Table:
    table = Table("Ways to be quicker", ["way", "ready after, s"])
    engine = subject.engine()
    columns = [(side, batch) for side in subject.sides for batch in BATCHES]
    table.columns = [
        "way",
        "ready after, s",
        *(f"{side}² × {batch}, ms" for side, batch in columns),
        "mixed, ms",
        "PSNR to plain, alone",
        "PSNR alone to mixed",
    ]
    reference, _ = draw(engine, [subject.asked(subject.sides[0], seed=7)])
    for name, way in WAYS.items():
        if only and name not in only:
            continue
        try:
            _row(subject, table, name, way, columns, reference)
        except Exception as error:
            table.rows.append([name, f"not here: {type(error).__name__}: {str(error).splitlines()[0][:120]}"])
            print(f"{name}: {error!r}", flush=True)
        if subject.is_cuda:
            torch.cuda.empty_cache()
    table.notes.append(
        "Mixed: a step of two drawings of each size, each with a caption of another length. PSNR: of the latents after"
        " all steps, dB; 'alone to mixed' compares the same way with itself. Ready: from the plain model on the device"
        " to the end of the first steps of all these shapes, compilation included."
    )
    return table


def _row(
    subject: Subject,
    table: Table,
    name: str,
    way: Callable[[Subject], Any],
    columns: list[tuple[int, int]],
    reference: torch.Tensor,
) -> None:
    kept = subject.pipeline.transformer
    try:
        began = time.perf_counter()
        engine = way(subject)
        batches = [[engine.begin(subject.asked(side, seed=seed)) for seed in range(batch)] for side, batch in columns]
        mixed = [
            engine.begin(subject.asked(side, seed=seed, words=words))
            for seed, (side, words) in enumerate((side, words) for side in subject.sides for words in (12, 150))
        ]
        for drawings in [*batches, mixed]:
            engine.step(drawings, lambda: None)
            engine.step(drawings, lambda: None)
        subject.wait()
        ready_s = time.perf_counter() - began
        seconds = [step_s(subject, engine, drawings) for drawings in [*batches, mixed]]
        alone, _ = draw(engine, [subject.asked(subject.sides[0], seed=7)])
        together, _ = draw(
            engine,
            [subject.asked(subject.sides[0], seed=7), subject.asked(subject.sides[1], seed=8, words=150)],
        )
        true, steady = psnr(reference, alone), psnr(alone, together)
        table.rows.append([name, f"{ready_s:.1f}", *map(ms, seconds), f"{true:.1f}", f"{steady:.1f}"])
        for (side, batch), each in zip([*columns, (0, 0)], seconds, strict=True):
            table.figures[f"{name}.{side}x{batch}.s"] = each
        table.figures |= {f"{name}.ready_s": ready_s, f"{name}.psnr": min(true, 999.0)}
        print(table.rows[-1], flush=True)
    finally:
        subject.pipeline.transformer = kept
        kept.set_attention_backend("native")


def _plain(subject: Subject) -> Any:
    return subject.engine()


def _attention(backend: str) -> Callable[[Subject], Any]:
    def way(subject: Subject) -> Any:
        subject.pipeline.transformer.set_attention_backend(backend)
        return subject.engine(attention=backend)

    return way


def _cudnn_with_masks(subject: Subject) -> Any:
    subject.pipeline.transformer.set_attention_backend("_native_cudnn")
    return subject.engine()


def _compiled(**how: Any) -> Callable[[Subject], Any]:
    def way(subject: Subject) -> Any:
        torch._dynamo.reset()
        subject.pipeline.transformer = copy.deepcopy(subject.pipeline.transformer)  # so that it can be thrown away
        subject.pipeline.transformer.compile_repeated_blocks(**how)
        return subject.engine()

    return way


def _compiled_cudnn(subject: Subject) -> Any:
    engine = _compiled(dynamic=True)(subject)
    subject.pipeline.transformer.set_attention_backend("_native_cudnn")
    return engine


def _graphs(subject: Subject) -> Any:
    subject.pipeline.transformer = Graphed(subject.pipeline.transformer)
    return subject.engine()


def _fp8_cast(subject: Subject) -> Any:
    subject.pipeline.transformer = copy.deepcopy(subject.pipeline.transformer)
    subject.pipeline.transformer.enable_layerwise_casting(
        storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.bfloat16
    )
    return subject.engine()


def _torchao(config: str, *, compiled: bool) -> Callable[[Subject], Any]:
    def way(subject: Subject) -> Any:
        import torchao.quantization
        from torchao.quantization import quantize_

        torch._dynamo.reset()
        transformer = copy.deepcopy(subject.pipeline.transformer)
        layers = torch.nn.ModuleList([transformer.layers, transformer.noise_refiner, transformer.context_refiner])
        quantize_(layers, getattr(torchao.quantization, config)())
        subject.pipeline.transformer = transformer
        if compiled:
            transformer.compile_repeated_blocks(dynamic=True)
        return subject.engine()

    return way


WAYS: dict[str, Callable[[Subject], Any]] = {
    "plain": _plain,
    "attention: cuDNN": _attention("_native_cudnn"),
    "attention: cuDNN, masks too": _cudnn_with_masks,
    "attention: flash (torch's)": _attention("_native_flash"),
    "attention: memory-efficient (torch's)": _attention("_native_efficient"),
    "CUDA graphs": _graphs,
    "compile, dynamic shapes": _compiled(dynamic=True),
    "compile, a graph for each shape": _compiled(dynamic=False),
    "compile, dynamic shapes, cuDNN": _compiled_cudnn,
    "float8 weights, cast layer by layer": _fp8_cast,
    "float8 weights (torchao), compiled": _torchao("Float8WeightOnlyConfig", compiled=True),
    "float8 matrix products (torchao), compiled": _torchao("Float8DynamicActivationFloat8WeightConfig", compiled=True),
    "int8 weights (torchao), compiled": _torchao("Int8WeightOnlyConfig", compiled=True),
}
