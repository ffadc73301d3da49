"""Grades what the pocket model makes of a start image and a mask, on prompts that it has not learned from."""

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
from models.pocket_training.edits import additions, draw_edits, open_engine, recolourings, unedited, untouched
from models.pocket_training.evaluation import score

HERE = Path(__file__).parent


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    logging.disable_progress_bar()
    pipeline = ZImagePipeline.from_pretrained(options.model)
    pipeline.set_progress_bar_config(disable=True)
    engine = open_engine(pipeline)
    recoloured, added = recolourings(options.cases), additions(options.cases)
    scores, shown = [score("recolour: not edited", unedited(recoloured))], []
    for strength in options.strengths:
        results = draw_edits(engine, recoloured, strength, options.steps)
        scores.append(score(f"recolour, {strength:g}", results))
        shown += results[:8]
    scores.append(score("add: not edited", unedited(added)))
    for strength in options.mask_strengths:
        results = draw_edits(engine, added, strength, options.steps)
        scores.append(score(f"add, {strength:g}", results))
        shown += results[:8]
        print(f"add, {strength:g}: untouched outside of the mask in {untouched(added, results):.3f} of the pictures")
    print_table(scores)
    if options.contact_sheet is not None:
        save_contact_sheet(shown, options.contact_sheet)
        print(f"contact sheet: {options.contact_sheet}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model", type=Path, default=HERE / "pocket", help="diffusers folder to grade")
    parser.add_argument("--cases", type=int, default=100, metavar="N", help="pictures to recolour, and to add to")
    parser.add_argument("--steps", type=int, default=8, help="denoising steps before strength takes some away")
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.3, 0.6, 0.9], help="of recolouring")
    parser.add_argument("--mask-strengths", type=float, nargs="+", default=[0.9, 1.0], help="of adding a thing")
    parser.add_argument("--contact-sheet", type=Path, metavar="FILE", help="PNG with the first 8 of each kind")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    return parser


if __name__ == "__main__":
    main()
