"""A transformer whose forward is recorded as a CUDA graph for every combination of shapes, and replayed."""

from __future__ import annotations

from typing import Any

import torch


class Graphed:
    """Stands in for the transformer. A recording holds for one combination of shapes: it is made at the first use."""

    def __init__(self, transformer: Any) -> None:
        self._transformer = transformer
        self._recorded: dict[object, tuple[torch.cuda.CUDAGraph, list[torch.Tensor], list[torch.Tensor]]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transformer, name)

    def __call__(self, latents: list[Any], times: Any, captions: list[Any], *, return_dict: bool) -> tuple[Any]:
        inputs = [*latents, times, *captions]
        key = (len(latents), *(tuple(each.shape) for each in inputs))
        if key not in self._recorded:
            self._recorded[key] = self._record(inputs, len(latents))
        graph, fixed, answers = self._recorded[key]
        for target, source in zip(fixed, inputs, strict=True):
            target.copy_(source)
        graph.replay()
        return ([answer.clone() for answer in answers],)

    def _record(
        self, inputs: list[torch.Tensor], count: int
    ) -> tuple[torch.cuda.CUDAGraph, list[torch.Tensor], list[torch.Tensor]]:
        fixed = [each.clone() for each in inputs]
        latents, times, captions = fixed[:count], fixed[count], fixed[count + 1 :]
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call] # torch has not annotated it
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            self._transformer(list(latents), times, list(captions), return_dict=False)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            answers = self._transformer(list(latents), times, list(captions), return_dict=False)[0]
        return graph, fixed, answers
