"""Grades the pocket model on prompts that it has not learned from, and saves a contact sheet."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from diffusers import ZImagePipeline
from diffusers.utils import logging
from tqdm import tqdm

from models.pocket_training.contact_sheet import save_contact_sheet
from models.pocket_training.evaluation import (
    Prompt,
    Result,
    Score,
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
from models.pocket_training.grading import PARTS
from models.pocket_training.vocabulary import SHAPES

HERE = Path(__file__).parent
SIZES = (
    (64, 64), (96, 96), (160, 160), (192, 192), (256, 256),
    (128, 192), (192, 128), (128, 256), (256, 128), (64, 128), (256, 64), (176, 144),
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    logging.disable_progress_bar()
    started = time.perf_counter()
    pipeline = ZImagePipeline.from_pretrained(options.model)
    load_s = time.perf_counter() - started
    pipeline.set_progress_bar_config(disable=True)

    count = options.prompts
    whole, pairs = whole_prompts(count), pair_prompts(count // 2)
    short, partial = short_prompts(count // 2), partial_prompts(count // 2)
    some = whole[: max(1, count // 4)]
    at_sizes = {size: whole_prompts(max(1, count // 8), 1, *size) for size in (SIZES if options.sizes else [])}
    lists = [whole, pairs, short, partial, reworded_prompts(some), prompts_with_unknown_words(some), *at_sizes.values()]
    with tqdm(total=sum(map(len, lists)), desc="pictures", disable=options.quiet) as bar:
        drawn = [draw_all(pipeline, each, options.steps, options.seed, bar.update) for each in lists]
    results, pair_results, short_results, partial_results, reworded, unknown = drawn[:6]

    scores = [
        score("one object", results),
        score("two objects", pair_results),
        score("the usual left out", short_results),
        score("any part left out", partial_results),
    ]
    scores += [score("in other words", reworded), score("with unknown words", unknown)]
    scores += [shifted_score(results), chance_score(results)]
    scores += [score(f"{width} x {height}", each) for (width, height), each in zip(at_sizes, drawn[6:], strict=True)]
    print_table(scores)
    _print_shapes(results)
    print(f"\nthe same seen in other words: {agreement(results[: len(some)], reworded):.3f}")
    print(f"the same seen with unknown words: {agreement(results[: len(some)], unknown):.3f}")
    print(f"loading {load_s:.2f} s; one picture at a time {_seconds_alone(pipeline, options.steps):.3f} s")
    if options.contact_sheet is not None:
        save_contact_sheet(
            results[:24] + pair_results[:8] + short_results[:8] + partial_results[:8], options.contact_sheet
        )
        print(f"contact sheet: {options.contact_sheet}")
    if options.failures is not None:
        wrong = [each for each in results + pair_results + short_results + partial_results if not each.all_right()]
        save_contact_sheet(wrong[:64], options.failures)
        print(f"failures: {options.failures}")


def print_table(scores: Sequence[Score]) -> None:
    heads = "".join(f"{part:>12}" for part in (*PARTS, "all"))
    print(f"\n{'prompts':<24}{'count':>8}{heads}")
    for each in scores:
        cells = [f"{each.parts[part]:>12.3f}" if part in each.parts else f"{'':>12}" for part in PARTS]
        print(f"{each.name:<24}{each.count:>8}{''.join(cells)}{each.all_right:>12.3f}")


def _print_shapes(results: Sequence[Result]) -> None:
    rights = {
        shape: ["shape" in each.right() for each in results if each.prompt.scene.things[0].shape == shape]
        for shape in SHAPES
    }
    shown = (f"{shape} {sum(right) / len(right):.2f}" for shape, right in rights.items() if right)
    print("\nshape by shape: " + ", ".join(shown))


def _seconds_alone(pipeline: ZImagePipeline, steps: int) -> float:
    prompts: list[Prompt] = whole_prompts(5)
    started = time.perf_counter()
    for prompt in prompts:
        draw_all(pipeline, [prompt], steps)
    return (time.perf_counter() - started) / len(prompts)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model", type=Path, default=HERE / "pocket", help="diffusers folder to grade")
    parser.add_argument("--prompts", type=int, default=500, metavar="N", help="prompts with one object; others follow")
    parser.add_argument("--steps", type=int, default=8, help="denoising steps")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first picture")
    parser.add_argument("--contact-sheet", type=Path, metavar="FILE", help="PNG with 48 pictures and their prompts")
    parser.add_argument("--failures", type=Path, metavar="FILE", help="PNG with the first 64 wrong pictures")
    parser.add_argument("--sizes", action="store_true", help="other picture sizes as well; it has not learned any")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    return parser


if __name__ == "__main__":
    main()
