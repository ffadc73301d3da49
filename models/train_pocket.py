"""Makes the pocket model: draws its training pictures, trains all parts, exports and grades it.

It has not been run from end to end in one go: expect some two hours on two free CPU cores. Stop it at any time;
the same command goes on from the last checkpoint.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from models.pocket_training.export import export_pipeline
from models.pocket_training.latents import write_training_set
from models.pocket_training.train_transformer import CHECKPOINT, STEPS, averaged_denoiser, train_transformer
from models.pocket_training.train_vae import train_decoder, train_encoder

HERE = Path(__file__).parent


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # its processes end with it
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    work: Path = options.work
    vae = train_encoder(work, device, options.seed)
    if options.export_now:
        export_pipeline(vae.cpu(), averaged_denoiser(work / CHECKPOINT), options.out)
        return
    vae = train_decoder(vae, work, device, options.seed)
    write_training_set(vae, work, device, options.seed)
    denoiser = train_transformer(work, device, options.seed, options.steps, options.processes)
    export_pipeline(vae.cpu(), denoiser, options.out)
    print(f"exported to {options.out}")
    if not options.no_evaluation:
        from models.evaluate_pocket import main as evaluate

        evaluate(["--model", str(options.out), "--contact-sheet", str(work / "contact_sheet.png")])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "pocket", help="diffusers folder to write (models/pocket)")
    parser.add_argument("--work", type=Path, default=HERE / ".training", help="checkpoints, caches (models/.training)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cuda or cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--processes", type=int, default=2, help="CPU processes that share each batch")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same pictures and batches")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"steps of the transformer ({STEPS})")
    parser.add_argument("--export-now", action="store_true", help="only export what the last checkpoint holds")
    parser.add_argument("--no-evaluation", action="store_true", help="stop after the export")
    return parser


if __name__ == "__main__":
    main()
