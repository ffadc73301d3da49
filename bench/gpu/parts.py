"""The other parts of a picture: reading the prompt, decoding, and the memory at the peak."""

from __future__ import annotations

import torch

from bench.gpu.subject import Subject
from bench.gpu.table import Table, ms
from bench.gpu.timing import median_s


def measure(subject: Subject) -> Table:
    engine = subject.engine()
    table = Table("Prompts, decoding, memory", ["what", "ms", "peak memory beyond the weights, GB"])
    for words in (12, 100, 480):
        prompt = subject.asked(subject.sides[0], words=words).prompt
        _row(subject, table, f"encode a prompt of {words} words", lambda prompt=prompt: engine._encode(prompt))
    prompt = subject.asked(subject.sides[0]).prompt
    _row(subject, table, "the same prompt again (kept)", lambda: engine._embeddings.get(prompt))
    for side in subject.sides:
        drawing = engine.begin(subject.asked(side))
        _row(subject, table, f"begin {side}² (prompt kept)", lambda side=side: engine.begin(subject.asked(side)))
        _row(subject, table, f"decode {side}², bytes copied to main memory", lambda d=drawing: engine.decode(d)())
        for batch in (1, 8):
            drawings = [engine.begin(subject.asked(side, seed=seed, steps=50)) for seed in range(batch)]
            _row(subject, table, f"step {side}², {batch} together", lambda d=drawings: engine.step(d, lambda: None))
    return table


def _row(subject: Subject, table: Table, what: str, work: object) -> None:
    assert callable(work)
    before = 0
    if subject.is_cuda:
        before = torch.cuda.memory_allocated(subject.device)
        torch.cuda.reset_peak_memory_stats(subject.device)
    with torch.inference_mode():
        seconds = median_s(subject, work, times=3)
    peak = (torch.cuda.max_memory_allocated(subject.device) - before) / 1e9 if subject.is_cuda else 0.0
    table.rows.append([what, ms(seconds), f"{peak:.2f}" if subject.is_cuda else "-"])
    table.figures[f"{what}.s"] = seconds
    table.figures[f"{what}.peak_gb"] = peak
