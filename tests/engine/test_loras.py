"""LoRAs: the pictures of diffusers' own loader, alone and in mixed batches, and files that don't fit."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file, save_file

from storage.catalog import Model
from storage.predictions.parameters import Lora, Parameters
from tests.engine.drawn_pictures import colours, corner
from tests.engine.rounding import assert_same_latents
from tests.engine.tiny_loras import save_lora
from tests.engine.tiny_pipelines import tiny_stable_diffusion, tiny_zimage
from worker.engine import DrawingFailed, ModelNotLoaded, Pictures, load_engine
from worker.engine.loras import Loras
from worker.engine.pipeline import PipelineEngine
from worker.engine.zimage import ZImageDrawing, ZImageEngine

# What diffusers' own loader says of a second adapter, in `expected`.
pytestmark = pytest.mark.filterwarnings("ignore:Already found a `peft_config`:UserWarning")

CPU = torch.device("cpu")
PLAIN = Parameters(prompt="a red circle", width=64, height=64, num_inference_steps=4, guidance_scale=0.0, seed=1)
FIRST = replace(PLAIN, loras=(Lora("first"),))
SECOND = replace(PLAIN, loras=(Lora("second", 0.5),))
BOTH = replace(PLAIN, loras=(Lora("first", 0.7), Lora("second")))
MIXED = [
    PLAIN,
    FIRST,
    SECOND,
    BOTH,
    replace(PLAIN, image="given", strength=0.6, seed=2),
    replace(FIRST, image="given", strength=0.8, seed=3),
    replace(SECOND, image="given", mask="given", seed=4),
    replace(PLAIN, image="given", mask="given", width=128, seed=5),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("loras")
    pipeline = tiny_zimage()
    return {name: save_lora(pipeline, folder / name, seed=seed) for seed, name in enumerate(("first", "second"))}


@pytest.fixture
def engine(files: dict[str, Path]) -> ZImageEngine:
    return ZImageEngine(tiny_zimage().to(torch.bfloat16), device=CPU, loras=files)


def begin(engine: ZImageEngine, asked: Parameters) -> ZImageDrawing:
    if not asked.image:
        return engine.begin(asked)
    size = asked.width, asked.height
    return engine.begin(asked, Pictures(colours(*size), corner(*size) if asked.mask else None))


def draw(engine: ZImageEngine, asked: Parameters) -> torch.Tensor:
    drawing = begin(engine, asked)
    while drawing.steps_done < drawing.steps:
        engine.step([drawing], lambda: None)
    return drawing.latents[0]


def expected(files: dict[str, Path], loras: Sequence[Lora]) -> torch.Tensor:
    """What diffusers' pipeline draws after its own loader has brought in the files."""
    pipeline = tiny_zimage().to(torch.bfloat16)
    for lora in loras:
        pipeline.load_lora_weights(str(files[lora.name]), adapter_name=lora.name)
    if loras:
        pipeline.set_adapters([lora.name for lora in loras], [lora.scale for lora in loras])
    latents: torch.Tensor = pipeline(
        PLAIN.prompt,
        width=64,
        height=64,
        num_inference_steps=4,
        guidance_scale=0.0,
        generator=torch.Generator("cpu").manual_seed(PLAIN.seed),
        output_type="latent",
    ).images
    return latents[0].unsqueeze(1)


def test_it_draws_bit_for_bit_what_diffusers_draws_with_the_same_files(
    engine: ZImageEngine, files: dict[str, Path]
) -> None:
    for asked in (FIRST, SECOND, BOTH, PLAIN, FIRST):
        assert torch.equal(draw(engine, asked), expected(files, asked.loras))
    pictures = [draw(engine, asked) for asked in (PLAIN, FIRST, SECOND, BOTH)]
    for index, one in enumerate(pictures):
        for other in pictures[index + 1 :]:
            assert (one - other).abs().max() > 0.05


@pytest.mark.parametrize("seed", range(3))
def test_texts_pictures_masks_and_loras_share_a_batch_and_each_seed_keeps_its_picture(
    engine: ZImageEngine, seed: int
) -> None:
    chance = random.Random(seed)
    drawings = [begin(engine, asked) for asked in MIXED]
    while left := [drawing for drawing in drawings if drawing.steps_done < drawing.steps]:
        engine.step(chance.sample(left, chance.randint(1, len(left))), lambda: None)
    for asked, drawing in zip(MIXED, drawings, strict=True):
        assert_same_latents(draw(engine, asked), drawing.latents[0])


def test_a_step_switches_no_more_often_than_it_has_sets_of_loras(
    engine: ZImageEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawings = [begin(engine, asked) for asked in (FIRST, PLAIN, SECOND, FIRST, PLAIN)]
    switched: list[tuple[Lora, ...]] = []
    switch = Loras.switch

    def watched(loras: Loras, wanted: tuple[Lora, ...]) -> None:
        if wanted != loras.active:
            switched.append(wanted)
        switch(loras, wanted)

    monkeypatch.setattr(Loras, "switch", watched)
    for _ in range(4):
        engine.step(drawings, lambda: None)
    assert len(switched) <= 3 + 3 * 2  # the first step sets all three, each later one begins where the last ended


def test_a_model_that_draws_without_loras_again_calls_only_its_own_layers(engine: ZImageEngine) -> None:
    transformer = engine._pipeline.transformer
    names = [name for name, _ in transformer.named_modules()]
    plain = draw(engine, PLAIN)
    with_lora = draw(engine, FIRST)
    assert any(isinstance(part, BaseTunerLayer) for part in transformer.modules())
    for _ in range(2):
        assert torch.equal(draw(engine, PLAIN), plain)
        assert [name for name, _ in transformer.named_modules()] == names
        assert torch.equal(draw(engine, FIRST), with_lora)
    engine._loras.drop_all()
    assert torch.equal(draw(engine, PLAIN), plain)
    assert torch.equal(draw(engine, FIRST), with_lora)


def test_the_least_recently_used_lora_leaves_the_device_and_comes_back_when_it_is_needed(
    files: dict[str, Path],
) -> None:
    pipeline = tiny_zimage().to(torch.bfloat16)
    engine = ZImageEngine(pipeline, device=CPU, loras=files)
    engine._loras = Loras(pipeline, files, max_on_device=1)
    for asked in (FIRST, SECOND, FIRST, PLAIN):
        assert torch.equal(draw(engine, asked), expected(files, asked.loras))
        assert len(pipeline.transformer.peft_config) == 1
    assert torch.equal(draw(engine, BOTH), expected(files, BOTH.loras))


def test_a_drawing_whose_lora_was_dropped_meanwhile_goes_on_with_it(files: dict[str, Path]) -> None:
    pipeline = tiny_zimage().to(torch.bfloat16)
    engine = ZImageEngine(pipeline, device=CPU, loras=files)
    engine._loras = Loras(pipeline, files, max_on_device=1)
    first, second = engine.begin(FIRST), engine.begin(SECOND)
    for _ in range(4):
        engine.step([first, second], lambda: None)
    assert torch.equal(first.latents[0], expected(files, FIRST.loras))
    assert torch.equal(second.latents[0], expected(files, SECOND.loras))


def test_a_file_that_does_not_fit_fails_its_drawing_with_the_names_and_no_other(
    files: dict[str, Path], tmp_path: Path
) -> None:
    foreign, wrong_shape, damaged = (tmp_path / f"{name}.safetensors" for name in ("foreign", "shape", "damaged"))
    save_file(
        {f"transformer.blocks.{n}.attn.lora_{ab}.weight": torch.ones(4, 4) for n in range(5) for ab in "AB"}, foreign
    )
    part = "transformer.layers.0.attention.to_q"
    save_file({f"{part}.lora_A.weight": torch.ones(4, 9), f"{part}.lora_B.weight": torch.ones(9, 4)}, wrong_shape)
    damaged.write_bytes(b"not a file of this kind")
    engine = ZImageEngine(
        tiny_zimage().to(torch.bfloat16),
        device=CPU,
        loras=files | {"foreign": foreign, "shape": wrong_shape, "damaged": damaged},
    )
    reasons = {
        "foreign": r'The LoRA "foreign" fits this model nowhere: it is for transformer.blocks.0.attn.*and 2 more',
        "shape": 'The LoRA "shape" does not fit this model: .*size mismatch',
        "damaged": 'The LoRA "damaged" does not fit this model',
        "absent": 'This model has no LoRA "absent"; it has damaged, first, foreign, second, shape',
    }
    for name, reason in reasons.items():
        with pytest.raises(DrawingFailed, match=reason):
            engine.begin(replace(PLAIN, loras=(Lora(name),)))
        for asked in (PLAIN, FIRST):
            assert torch.equal(draw(engine, asked), expected(files, asked.loras))


def test_a_file_of_which_only_a_part_fits_draws_with_that_part_and_logs_name_the_rest(
    files: dict[str, Path], tmp_path: Path
) -> None:
    more = {f"text_encoder.layers.{n}.q_proj.lora_{ab}.weight": torch.ones(4, 4) for n in range(5) for ab in "AB"}
    mixed = tmp_path / "mixed.safetensors"
    save_file(load_file(files["first"]) | more, mixed)
    engine = ZImageEngine(tiny_zimage().to(torch.bfloat16), device=CPU, loras=files | {"mixed": mixed})
    asked = replace(PLAIN, loras=(Lora("mixed"),))
    for _ in range(2):  # also when it is on the device already
        [note] = engine.begin(asked).notes
        assert 'Only a part of the LoRA "mixed" is used' in note
        assert "text_encoder.layers.0.q_proj" in note
        assert note.endswith("and 2 more")
    assert torch.equal(draw(engine, asked), expected(files, FIRST.loras))
    assert engine.begin(FIRST).notes == ()


def test_other_families_draw_with_loras_too_and_each_set_has_a_batch_of_its_own(tmp_path: Path) -> None:
    pipeline = tiny_stable_diffusion()
    files = {"first": save_lora(pipeline, tmp_path, seed=0)}
    engine = PipelineEngine(copy.deepcopy(pipeline), device=CPU, loras=files)
    asked = replace(PLAIN, guidance_scale=3.0)
    with_lora = replace(asked, loras=(Lora("first"),))
    assert engine.batch_key(asked) != engine.batch_key(with_lora)

    def picture(parameters: Parameters) -> bytes:
        drawing = engine.begin(parameters)
        engine.step([drawing], lambda: None)
        return engine.decode(drawing)()[0].tobytes()

    plain = picture(asked)
    tinted = picture(with_lora)
    assert tinted != plain
    assert picture(asked) == plain
    assert picture(with_lora) == tinted


def test_a_catalog_entry_s_loras_are_looked_for_when_the_model_is_loaded(
    zimage_folder: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    def entry(**loras: Any) -> Model:
        return Model(name="a/b", source=str(zimage_folder), dtype="bfloat16", loras=loras)

    engine: Any = load_engine(entry(first={"source": str(files["first"])}), device="cpu")
    assert (draw(engine, FIRST) - draw(engine, PLAIN)).abs().max() > 0.05
    url = "https://example.com/lora.safetensors?key=secret"
    engine = load_engine(entry(), device="cpu", downloads={url: files["first"]})
    by_url = replace(PLAIN, loras=(Lora(url),))
    assert (draw(engine, by_url) - draw(engine, PLAIN)).abs().max() > 0.05
    with pytest.raises(DrawingFailed, match=r"has no LoRA .*other.safetensors\"; it has none") as refused:
        engine.begin(replace(PLAIN, loras=(Lora("https://example.com/other.safetensors?key=secret"),)))
    assert "secret" not in str(refused.value)
    (tmp_path / "pickle.bin").write_bytes(b"")
    (tmp_path / "short.safetensors").write_bytes(files["first"].read_bytes()[:-10])
    for source, reason in (
        ("./absent.safetensors", 'there is no file .*check the LoRA "x"'),
        (str(tmp_path / "pickle.bin"), "only .safetensors files are read"),
        (str(tmp_path / "short.safetensors"), "is cut short"),
    ):
        with pytest.raises(ModelNotLoaded, match=reason):
            load_engine(entry(x={"source": source}), device="cpu")
