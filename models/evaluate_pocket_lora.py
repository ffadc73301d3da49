"""Grades the pocket model's LoRA "outlined" on prompts that neither it nor the model has learned from."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from diffusers import ZImagePipeline
from diffusers.utils import logging

from models.evaluate_pocket import print_table
from models.pocket_training.contact_sheet import save_contact_sheet
from models.pocket_training.evaluation import Result, Score, draw_all, outlined, pair_prompts, score, whole_prompts

HERE = Path(__file__).parent
NAME = "outlined"


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    logging.disable_progress_bar()
    pipeline = ZImagePipeline.from_pretrained(options.model)
    pipeline.set_progress_bar_config(disable=True)
    lists = {"one": whole_prompts(options.prompts), "two": pair_prompts(options.prompts)}
    scores: list[Score] = []
    shown: list[Result] = []
    drawn = {name: draw_all(pipeline, prompts) for name, prompts in lists.items()}
    for name, results in drawn.items():
        scores += _both_ways(f"{name}, without", results)
    shown += drawn["one"][:8]
    pipeline.load_lora_weights(str(options.lora), adapter_name=NAME)
    for scale in options.scales:
        pipeline.set_adapters([NAME], [scale])
        for name, prompts in lists.items():
            results = draw_all(pipeline, prompts)
            scores += _both_ways(f"{name}, {scale:g}", results)
            shown += outlined(results)[: 24 if scale == 1.0 else 8]
    print_table(scores)
    if options.contact_sheet is not None:
        save_contact_sheet(shown, options.contact_sheet)
        print(f"contact sheet: {options.contact_sheet}")


def _both_ways(name: str, results: Sequence[Result]) -> list[Score]:
    return [score(f"{name}: filled", results), score(f"{name}: outlined", outlined(results))]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model", type=Path, default=HERE / "pocket", help="diffusers folder of the pocket model")
    parser.add_argument("--lora", type=Path, default=HERE / "pocket_loras" / f"{NAME}.safetensors", help="to grade")
    parser.add_argument("--prompts", type=int, default=100, metavar="N", help="with one object, and with two")
    parser.add_argument("--scales", type=float, nargs="+", default=[1.0, 0.5, 0.0], help="of the LoRA")
    parser.add_argument("--contact-sheet", type=Path, metavar="FILE", help="PNG with some of each scale")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    return parser


if __name__ == "__main__":
    main()
