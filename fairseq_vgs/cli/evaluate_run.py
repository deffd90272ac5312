"""``fairseq-vgs evaluate run``: every saved checkpoint of a run, so that learning shows as a curve."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

DESCRIPTION = """\
Retrieval and, with --abx, phone discrimination of every saved checkpoint of a run. One JSON file of figures
and one .npz file of per-item results per checkpoint; what is there already is kept. A table goes to stdout.
Train with checkpoint.save_interval_updates=N checkpoint.keep_interval_updates=-1.
"""


def add_run_arguments(kinds: Any, *, epilog: str) -> None:
    """Add ``evaluate run``."""
    parser = kinds.add_parser(
        "run",
        help="retrieval and phone ABX of every checkpoint of a run",
        description=DESCRIPTION,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="run folder, with checkpoints/ in it")
    parser.add_argument("data", type=Path, metavar="DATA", help="the manifest folder, as in task.data")
    parser.add_argument("--split", default="test", help="split of DATA (default: %(default)s)")
    parser.add_argument(
        "--every",
        type=positive,
        default=1,
        metavar="N",
        help="only checkpoints after a multiple of N updates (default: all)",
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="default: RUN/evaluation")
    parser.add_argument("--abx", type=Path, metavar="DIR", help="recordings of ABX items, with an item file")
    parser.add_argument(
        "--abx-items", default="triphone.item", metavar="NAME", help="item file in DIR (default: %(default)s)"
    )
    parser.add_argument(
        "--abx-speakers",
        nargs="+",
        choices=("within", "across"),
        default=["within"],
        metavar="MODE",
        help="compare phones of one speaker (within), of two (across), or both (default: within)",
    )
    parser.add_argument(
        "--untrained-seed",
        type=int,
        metavar="SEED",
        help="also measure the model with fresh weights, as update 0, and MFCC",
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ... (default: %(default)s)")
    parser.set_defaults(run_evaluation=run_run)


def run_run(args: argparse.Namespace) -> int:
    """Evaluate the checkpoints and print a line for each."""
    from tqdm import tqdm

    from fairseq_vgs.evaluation import run_evaluation

    output = args.output or args.run_folder / "evaluation"
    measurement = run_evaluation.Measurement(
        data=args.data,
        split=args.split,
        abx=args.abx,
        abx_items=args.abx_items,
        abx_speakers=tuple(dict.fromkeys(args.abx_speakers)),
        device=args.device,
    )
    steps = run_evaluation.evaluate_run(
        args.run_folder, measurement, output, every=args.every, untrained_seed=args.untrained_seed
    )
    measured = {}
    with tqdm(unit="checkpoint", file=sys.stderr, disable=None) as bar:
        for updates, figures, total in steps:
            measured[updates] = figures
            bar.total = total
            bar.update()
    print(f"{'update':>8} {'s->i R@10':>10} {'i->s R@10':>10} {'ABX, %':>8}  best layer")
    shown = run_evaluation.ABX_KEYS[measurement.abx_speakers[0]]
    for updates, figures in measured.items():
        recalls, errors = figures["retrieval"], figures.get(shown, {}).get("error", {})
        best = min(errors, key=errors.__getitem__) if errors else "-"
        print(
            f"{updates:>8} {recalls['speech_to_image_r10']:>10.1f} {recalls['image_to_speech_r10']:>10.1f} "
            f"{f'{errors[best]:.2f}' if errors else '-':>8}  {best}"
        )
    print(f"results: {output}", file=sys.stderr)
    return 0


def positive(text: str) -> int:
    """Read an argument that counts something."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)
