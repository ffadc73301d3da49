"""What the device can do at most: bytes and operations a second, measured, and the least time of a step by them."""

from __future__ import annotations

import torch

from bench.gpu.subject import Subject
from bench.gpu.table import Table, ms
from bench.gpu.timing import median_s


def measure(subject: Subject) -> Table:
    side = 8192 if subject.is_cuda else 512
    a, b = (torch.randn(side, side, device=subject.device, dtype=torch.bfloat16) for _ in range(2))
    product_s = median_s(subject, lambda: torch.mm(a, b), times=10, warm_up=3)
    flops = 2 * side**3 / product_s
    source = torch.empty(
        (4 << 30) if subject.is_cuda else (1 << 26), dtype=torch.uint8, device=subject.device
    ).random_()
    target = torch.empty_like(source)
    copy_s = median_s(subject, lambda: target.copy_(source), times=5)
    moved = 2 * source.numel() / copy_s
    table = Table("Ceilings", ["", "measured"])
    table.rows = [
        [f"{side}³ bfloat16 matrix product", f"{flops / 1e12:.0f} TFLOP/s"],
        ["copy within the device, bytes read and written", f"{moved / 1e12:.2f} TB/s"],
    ]
    for size in subject.sides:
        least = step_flops(subject, size) / flops
        table.rows.append([f"least time of a step at {size}², by the operations alone", f"{ms(least)} ms"])
        table.figures[f"least_step_s.{size}"] = least
    table.figures |= {"flops": flops, "copy_bytes_s": moved}
    return table


def step_flops(subject: Subject, side: int, *, caption: int = 32) -> float:
    """Operations of one picture's step.

    Two for each weight and token, and for the attention of each layer 4 · tokens² · width.
    """
    transformer = subject.pipeline.transformer
    tokens: int = (side // (subject.pipeline.vae_scale_factor * 2)) ** 2 + caption
    weights: int = sum(block.numel() for layer in transformer.layers for block in layer.parameters())
    refiner: int = sum(block.numel() for layer in transformer.noise_refiner for block in layer.parameters())
    layers = len(transformer.layers) + len(transformer.noise_refiner)
    width: int = transformer.config.dim
    return 2.0 * tokens * (weights + refiner) + 4.0 * tokens**2 * width * layers
