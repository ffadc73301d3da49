"""Makes the pocket model's LoRA "outlined": shapes are drawn as outlines instead of filled.

Draws its own training pictures, keeps them encoded in memory, and trains on them. Minutes on a GPU, hours on a CPU.
"""

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

from models.pocket_training.contact_sheet import save_contact_sheet
from models.pocket_training.evaluation import draw_all, pair_prompts, whole_prompts
from models.pocket_training.train_lora import add_lora, draw_examples, save_lora, train_lora

HERE = Path(__file__).parent
FILE = HERE / "pocket_loras" / "outlined.safetensors"
BUDGET_FOR_THE_END_S = 5.0
"""Kept back for writing the file."""


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    started = time.perf_counter()
    torch.set_num_threads(options.threads)
    logging.disable_progress_bar()
    device = torch.device(options.device)

    def say(line: str) -> None:
        print(f"{time.perf_counter() - started:6.1f} s  {line}", flush=True)

    torch.manual_seed(options.seed)
    pipeline = ZImagePipeline.from_pretrained(options.model).to(device)
    say(f"{options.model} loaded on {device}")
    examples = draw_examples(pipeline, options.scenes, device, options.seed, say)
    weights = add_lora(pipeline.transformer)
    deadline = started + options.budget_s - BUDGET_FOR_THE_END_S
    done = train_lora(
        pipeline.transformer,
        weights,
        examples,
        steps=options.steps,
        batch=options.batch,
        seed=options.seed,
        deadline=deadline,
        say=say,
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    save_lora(pipeline.transformer, options.out)
    say(f"{done} steps; {options.out}: {options.out.stat().st_size:,} bytes")
    if options.contact_sheet is not None:
        _draw_some(options.model, options.out, device, options.contact_sheet)
        say(f"contact sheet: {options.contact_sheet}")


def _draw_some(model: Path, lora: Path, device: torch.device, sheet: Path) -> None:
    """Draws held-out prompts as anyone would: the model from its folder, the LoRA from its file."""
    pipeline = ZImagePipeline.from_pretrained(model).to(device)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_lora_weights(str(lora), adapter_name="outlined")
    save_contact_sheet(draw_all(pipeline, whole_prompts(24)) + draw_all(pipeline, pair_prompts(8)), sheet)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model", type=Path, default=HERE / "pocket", help="diffusers folder of the pocket model")
    parser.add_argument("--out", type=Path, default=FILE, help="file to write")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cuda or cpu")
    parser.add_argument("--steps", type=int, default=4000, help="training steps")
    parser.add_argument("--batch", type=int, default=128, help="pictures in each step")
    parser.add_argument("--scenes", type=int, default=16_000, help="pictures to learn from")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same pictures and batches")
    parser.add_argument("--budget-s", type=float, default=86_400.0, help="stop training and save within these seconds")
    parser.add_argument("--contact-sheet", type=Path, metavar="FILE", help="PNG with 32 pictures drawn with the LoRA")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    return parser


if __name__ == "__main__":
    main()
