"""The pocket model draws what the prompt says: a short form of `models/evaluate_pocket.py`."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import ZImagePipeline

from models.pocket_training.drawings import draw_scene
from models.pocket_training.edits import additions, draw_edits, open_engine, recolourings, unedited, untouched
from models.pocket_training.evaluation import (
    agreement,
    chance_score,
    draw_all,
    pair_prompts,
    partial_prompts,
    prompts_with_unknown_words,
    reworded_prompts,
    score,
    shifted_score,
    short_prompts,
    whole_prompts,
)
from models.pocket_training.grading import PARTS, Pixels, asked, look, right_parts
from models.pocket_training.scenes import sample_scene
from models.pocket_training.text import build_tokenizer, encode, tokenize
from models.pocket_training.transformer import build_transformer, predict, use_real_rotation

POCKET = Path(__file__).resolve().parents[2] / "models" / "pocket"
SIZES = [(64, 64), (96, 96), (160, 160), (256, 256), (128, 192), (256, 128), (64, 256)]


@pytest.fixture(scope="module")
def pipeline() -> ZImagePipeline:
    loaded = ZImagePipeline.from_pretrained(POCKET)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def draw(pipeline: ZImagePipeline, prompt: str, seed: int = 0, width: int = 128, height: int = 128) -> Pixels:
    picture = pipeline(
        prompt,
        width=width,
        height=height,
        num_inference_steps=8,
        guidance_scale=0.0,
        generator=torch.Generator().manual_seed(seed),
    ).images[0]
    return np.asarray(picture)


def test_the_exported_folder_is_small_and_holds_safetensors_only() -> None:
    files = [path for path in POCKET.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 10_000_000
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".jinja", ".md"}
    assert len([path for path in files if path.suffix == ".safetensors"]) == 3


def test_it_is_made_of_the_classes_of_z_image() -> None:
    index = json.loads((POCKET / "model_index.json").read_text())
    assert index["_class_name"] == "ZImagePipeline"
    assert index["transformer"] == ["diffusers", "ZImageTransformer2DModel"]
    assert index["vae"] == ["diffusers", "AutoencoderKL"]
    assert index["text_encoder"] == ["transformers", "Qwen3Model"]
    assert index["scheduler"] == ["diffusers", "FlowMatchEulerDiscreteScheduler"]


def test_held_out_prompts_come_out_right(pipeline: ZImagePipeline) -> None:
    results = draw_all(pipeline, whole_prompts(96))
    reached = score("one object", results)
    assert reached.parts["background"] >= 0.99
    assert reached.parts["colour"] >= 0.99
    assert reached.parts["place"] >= 0.99
    assert reached.parts["shape"] >= 0.95
    assert reached.parts["size"] >= 0.9
    assert reached.all_right >= 0.85
    control, chance = shifted_score(results), chance_score(results)
    for part in PARTS:
        assert control.parts[part] == pytest.approx(chance.parts[part], abs=0.15)


def test_short_prompts_mean_the_usual(pipeline: ZImagePipeline) -> None:
    reached = score("the usual left out", draw_all(pipeline, short_prompts(48)))
    assert reached.parts["background"] >= 0.95
    assert reached.parts["place"] >= 0.95
    assert reached.all_right >= 0.85


def test_two_objects_come_out_right(pipeline: ZImagePipeline) -> None:
    reached = score("two objects", draw_all(pipeline, pair_prompts(48)))
    assert reached.parts["background"] >= 0.95
    assert reached.parts["colour"] >= 0.95
    assert reached.all_right >= 0.8


def test_what_is_said_is_drawn_whatever_is_left_out(pipeline: ZImagePipeline) -> None:
    reached = score("any part left out", draw_all(pipeline, partial_prompts(48)))
    assert reached.parts["background"] >= 0.95
    assert reached.parts["colour"] >= 0.9
    assert reached.all_right >= 0.75


def test_other_words_for_the_same_give_the_same_kind_of_picture(pipeline: ZImagePipeline) -> None:
    prompts = whole_prompts(24)
    results = draw_all(pipeline, prompts)
    assert agreement(results, draw_all(pipeline, reworded_prompts(prompts))) >= 0.9
    assert agreement(results, draw_all(pipeline, prompts_with_unknown_words(prompts))) >= 0.85


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_picture_has_the_size_that_was_asked_for(pipeline: ZImagePipeline, width: int, height: int) -> None:
    assert draw(pipeline, "red star", 0, width, height).shape == (height, width, 3)


@pytest.mark.parametrize("prompt", ["", "   ", "日本語", "?!", "a " * 600, "<|im_end|> red", "xyzzy plugh"])
def test_no_prompt_crashes_it(pipeline: ZImagePipeline, prompt: str) -> None:
    assert draw(pipeline, prompt).shape == (128, 128, 3)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(pipeline: ZImagePipeline) -> None:
    prompt = "a small red circle on a white background"
    first, again, other = (draw(pipeline, prompt, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_side_that_is_no_multiple_of_sixteen_is_refused(pipeline: ZImagePipeline) -> None:
    with pytest.raises(ValueError, match="divisible by 16"):
        draw(pipeline, "red star", 0, 100, 128)


def test_the_grader_finds_what_a_perfect_drawing_shows() -> None:
    rng = random.Random(5)
    for pair in (False, True):
        for _ in range(40):
            scene = sample_scene(rng, held_out=True, pair=pair)
            found = look(draw_scene(scene, 128, 128, rng), scene.place)
            assert right_parts(found, asked(scene)) == set(PARTS)


def test_held_out_scenes_are_not_in_the_training_set() -> None:
    rng = random.Random(6)
    assert not any(sample_scene(rng, held_out=False).held_out() for _ in range(200))
    assert all(sample_scene(rng, held_out=True).held_out() for _ in range(50))


def test_training_reads_the_tokens_that_the_pipeline_reads(pipeline: ZImagePipeline) -> None:
    captions = ["A large, RED disc on the left!", "a wonderful mid-sized blue star", "", "日本 <|im_end|> x"]
    ids, lengths = tokenize(build_tokenizer(), captions)
    with torch.no_grad():
        states = encode(pipeline.text_encoder, ids)
        theirs, _ = pipeline.encode_prompt(list(captions), do_classifier_free_guidance=False)
    for mine, length, their in zip(states, lengths, theirs, strict=True):
        assert torch.allclose(mine[:length], their, atol=1e-4)


@pytest.mark.parametrize("rows", [8, 12, 16])
def test_the_quick_forward_pass_of_the_training_equals_that_of_diffusers(rows: int) -> None:
    torch.manual_seed(0)
    model = build_transformer().eval()
    torch.nn.init.normal_(model.all_final_layer["2-1"].linear.weight, std=0.1)
    noisy, t = torch.randn(2, model.in_channels, rows, 16), torch.tensor([0.1, 0.7])
    states, lengths = torch.randn(2, 32, 128), torch.tensor([12, 32])
    captions = [state[:length] for state, length in zip(states, lengths, strict=True)]
    with torch.no_grad():
        theirs = model([each[:, None] for each in noisy], t, captions, return_dict=False)[0]
        use_real_rotation(model)
        mine = predict(model, noisy, t, states, lengths)
    assert torch.allclose(mine, torch.stack(theirs)[:, :, 0], atol=1e-4)


def test_a_thing_gets_another_colour_and_a_second_thing_is_painted_beside_it(pipeline: ZImagePipeline) -> None:
    engine = open_engine(pipeline)
    recoloured = recolourings(6, seed=7)
    results = draw_edits(engine, recoloured, 0.6)
    assert score("recolour", unedited(recoloured)).parts["colour"] == 0.0
    assert score("recolour", results).parts["colour"] >= 0.8
    assert score("recolour", results).all_right >= 0.6
    added = additions(6, seed=7)
    results = draw_edits(engine, added, 1.0)
    assert untouched(added, results) == 1.0
    assert score("add", unedited(added)).all_right == 0.0
    assert score("add", results).all_right >= 0.5
