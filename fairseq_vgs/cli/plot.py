"""Draw plots from result files; each PNG comes with a CSV of exactly what was drawn."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

NAME = "plot"
HELP = "draw losses and recalls of a training run"
EPILOG = """\
examples:
  fairseq-vgs plot training outputs/vgs/RUN/history.jsonl training.png

LOG is the run's history.jsonl, which has every update. Logs of fairseq are read too: common.log_file and
hydra_train.log, as JSON (common.log_format=json) or as plain text (mostly one point per epoch).
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this subcommand's arguments."""
    parser.epilog = EPILOG
    kinds = parser.add_subparsers(title="plots", metavar="PLOT", dest="plot", required=True)
    training = kinds.add_parser(
        "training",
        help="losses, recalls (with chance) and alpha over updates",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    training.add_argument("log", type=Path, metavar="LOG", help="log of the run")
    training.add_argument(
        "output", type=Path, metavar="OUTPUT.png", help="the picture; OUTPUT.csv comes beside it"
    )
    training.add_argument("--force", action="store_true", help="replace existing files")


def run(args: argparse.Namespace) -> int:
    """Draw the plot; print the paths of what was written."""
    from fairseq_vgs.evaluation.plots import plot_training
    from fairseq_vgs.evaluation.training_log import read_training_log
    from fairseq_vgs.manifest.errors import ManifestError, fault

    if args.output.suffix.lower() != ".png":
        raise ManifestError(fault("OUTPUT", "must end in .png", str(args.output), "only PNG is written"))
    log = read_training_log(args.log)
    table = plot_training(log, args.output, force=args.force)
    if log.n_rewinds:
        print(
            f"note: the run was resumed {log.n_rewinds} times; repeated updates count once", file=sys.stderr
        )
    print(args.output)
    print(table)
    return 0
