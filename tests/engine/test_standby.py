"""Standby: weights go to main memory and come back bit for bit. On the CPU both are main memory, by the same code."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from storage.catalog import DeviceSettings
from storage.predictions.parameters import Parameters
from tests.engine.tiny_pipelines import tiny_stable_diffusion
from worker.engine import Engine, OutOfMemory
from worker.engine.device.standby import Weights
from worker.engine.pipeline import PipelineEngine
from worker.engine.zimage import ZImageEngine

CPU = torch.device("cpu")
ASKED = Parameters(prompt="a red circle", width=64, height=64, num_inference_steps=2, guidance_scale=0.0, seed=3)


def draw(engine: Any) -> np.ndarray[Any, Any]:
    drawing = engine.begin(ASKED)
    while drawing.steps_done < drawing.steps:
        engine.step([drawing], lambda: None)
    return np.asarray(engine.decode(drawing)()[0])


def weights_of(pipeline: Any) -> list[torch.Tensor]:
    return [
        tensor
        for part in pipeline.components.values()
        if isinstance(part, torch.nn.Module)
        for tensor in (*part.parameters(), *part.buffers())
    ]


def test_pictures_are_the_same_before_and_after_any_number_of_rests(zimage: Any) -> None:
    engines: list[Engine] = [
        ZImageEngine(copy.deepcopy(zimage), device=CPU),
        PipelineEngine(tiny_stable_diffusion(), device=CPU),
    ]
    for engine in engines:
        before = draw(engine)
        for _ in range(3):
            assert engine.rest(lambda: True)
            engine.wake()
            assert np.array_equal(draw(engine), before)


def test_no_weight_stays_where_it_was_and_all_come_back_as_they_were(zimage: Any) -> None:
    pipeline = copy.deepcopy(zimage)
    pipeline.vae.to(memory_format=torch.channels_last)
    before = [(tensor.data_ptr(), tensor.stride(), tensor.clone()) for tensor in weights_of(pipeline)]
    weights = Weights(pipeline, CPU)
    assert weights.move_away()
    away = [tensor.data_ptr() for tensor in weights_of(pipeline)]
    assert all(now != then for now, (then, _, _) in zip(away, before, strict=True))
    weights.bring_back()
    for tensor, where, (_, stride, values) in zip(weights_of(pipeline), away, before, strict=True):
        assert tensor.data_ptr() != where, "the copy stays for the next time"
        assert tensor.stride() == stride
        assert torch.equal(tensor, values)


def test_moving_away_stops_when_work_comes_and_the_model_can_still_draw(zimage: Any) -> None:
    engine = ZImageEngine(copy.deepcopy(zimage), device=CPU)
    before = draw(engine)
    answers = iter([True] * 5 + [False])
    assert not engine.rest(lambda: next(answers))
    assert np.array_equal(draw(engine), before)
    assert engine.rest(lambda: True)
    engine.wake()
    assert np.array_equal(draw(engine), before)


def test_a_device_that_is_full_when_the_weights_come_back_is_tried_again(
    zimage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The CPU is never full, so the copy of the third weight says that it is."""
    engine = ZImageEngine(copy.deepcopy(zimage), device=CPU)
    before = draw(engine)
    assert engine.rest(lambda: True)
    (_, full), number = list(engine._weights._copies.values())[2], 0

    def refuse(*_: Any, **__: Any) -> torch.Tensor:
        nonlocal number
        number += 1
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(full, "to", refuse, raising=False)
    with pytest.raises(OutOfMemory):
        engine.wake()
    monkeypatch.undo()
    engine.wake()
    assert number == 1
    assert np.array_equal(draw(engine), before)


@pytest.mark.parametrize(
    "asked", [{"compile": True}, {"quantization": "int8"}, {"offload": "model"}, {"gguf": "a.gguf"}]
)
def test_weights_that_are_not_plain_tensors_on_one_device_stay_there(asked: dict[str, Any]) -> None:
    assert DeviceSettings().can_rest
    assert not DeviceSettings(**asked).can_rest
