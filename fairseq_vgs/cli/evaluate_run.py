"""``fairseq-vgs evaluate run``: every saved checkpoint of a run, so that learning shows as a curve."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from fairseq_vgs.cli.evaluate_abx import item_file

DESCRIPTION = """\
Retrieval and, with --abx, phone discrimination of every saved checkpoint of a run. Beside the checkpoints
stand the same model with fresh weights, MFCC, and chance. One JSON file of figures and one .npz file of
per-item results per checkpoint; what is there already is kept, and refused if it was made from something
else (another split, other items, ...). A table goes to stdout; fairseq-vgs compare
adds intervals and paired differences. Of ABX the table has the best output of a transformer layer (layer_1
on; evaluate abx measures their common input, layer_0, as well), chosen on these very items: it is the lowest
of several figures, and a little better than the same layer would be on other items.
Train with checkpoint.save_interval_updates=N checkpoint.keep_interval_updates=-1.
"""
EPILOG = """\
examples:
  fairseq-vgs evaluate run outputs/my_run DATA
  fairseq-vgs evaluate run outputs/my_run DATA --abx manifests/embedded/abx --every 100
  fairseq-vgs evaluate run RUN DATA --abx DEV_CLEAN --items triphone.item --abx-speakers within across
"""


def add_run_arguments(kinds: Any) -> None:
    """Add ``evaluate run``."""
    parser = kinds.add_parser(
        "run",
        help="retrieval and phone ABX of every checkpoint of a run",
        description=DESCRIPTION,
        epilog=EPILOG,
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
    parser.add_argument("--abx", type=Path, metavar="DIR", help="folder of recordings and ABX items")
    parser.add_argument(
        "--items",
        "--abx-items",
        metavar="NAME",
        help="item file in the folder of --abx (default: the only one)",
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
        "--baseline",
        choices=("untrained", "none"),
        default="untrained",
        help="also measure the model with fresh weights, as update 0, and MFCC (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        "--untrained-seed",
        type=int,
        default=1,
        help="of the untrained weights (default: %(default)s)",
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ... (default: %(default)s)")
    parser.add_argument(
        "--force", action="store_true", help="replace results that were made from something else; keep others"
    )
    parser.set_defaults(run_evaluation=run_run)


def run_run(args: argparse.Namespace) -> int:
    """Evaluate the checkpoints and print a line for each."""
    from tqdm import tqdm

    from fairseq_vgs.evaluation import over_training as run_evaluation
    from fairseq_vgs.evaluation import run_figures
    from fairseq_vgs.evaluation.results import ALWAYS
    from fairseq_vgs.evaluation.retrieval_figures import aligned

    output = args.output or args.run_folder / "evaluation"
    items = {} if args.abx is None else {"abx": args.abx, "abx_items": item_file(args.abx, args.items).name}
    measurement = run_evaluation.Measurement(
        data=args.data,
        split=args.split,
        abx_speakers=tuple(dict.fromkeys(args.abx_speakers)),
        device=args.device,
        **items,
    )
    seed = args.seed if args.baseline == "untrained" else None
    steps = run_evaluation.evaluate_run(
        args.run_folder, measurement, output, every=args.every, untrained_seed=seed, force=args.force
    )
    measured = {}
    with tqdm(unit="checkpoint", file=sys.stderr, disable=None) as bar:
        for updates, figures, total in steps:
            measured[updates] = figures
            bar.total = total
            bar.update()
    last = list(measured.values())[-1]
    pool = last["retrieval"]["pool"]
    sizes = f"{pool['captions']} captions (s) of {pool['images']} images (i)"
    print(f"recall in %, split {args.split}: {sizes}")
    if items:
        print(
            f"phone ABX error in %, {items['abx_items']}, of the best transformer layer's output "
            "(layer_1 on), chosen on these items"
        )
    print()
    print(aligned(run_figures.score_rows(measured, seed=args.seed)))
    notes = run_figures.other_cells(measured.get(0, last))
    if certain := run_figures.certain_cutoffs(last):
        notes.insert(0, f"{', '.join(certain)}: {ALWAYS}")
    if notes:
        print("\n" + "\n".join(f"note: {note}" for note in notes))
    print(f"results: {output}", file=sys.stderr)
    return 0


def positive(text: str) -> int:
    """Read an argument that counts something."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)
