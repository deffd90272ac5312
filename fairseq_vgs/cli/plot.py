"""Draw plots from result files; each PNG comes with a CSV of exactly what was drawn."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

NAME = "plot"
HELP = "draw losses, recalls, cooperation probes of a training run, or phone ABX by layer"
EPILOG = """\
examples:
  fairseq-vgs plot training outputs/vgs/RUN/history.jsonl training.png
  fairseq-vgs plot probes outputs/vgs/RUN/probes.jsonl probes.png
  fairseq-vgs plot abx checkpoint_best_abx_within_within abx.png

LOG of a training plot is the run's history.jsonl, which has every update. Logs of fairseq are read too:
common.log_file and hydra_train.log, as JSON (common.log_format=json) or as plain text (mostly one point per
epoch). Probes are written by runs with task.probe_interval=N.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this subcommand's arguments."""
    parser.epilog = EPILOG
    kinds = parser.add_subparsers(title="plots", metavar="PLOT", dest="plot", required=True)
    _add_kind(kinds, "training", "losses, recalls (with chance) and alpha over updates", log="log of the run")
    _add_kind(
        kinds,
        "probes",
        "cosine of the losses' gradients and drift (CKA) of every layer over updates (task.probe_interval)",
        log="the run's probes.jsonl",
    )
    abx = _kind_parser(kinds, "abx", "phone ABX error of every layer, with chance")
    abx.add_argument(
        "results", type=Path, nargs="+", metavar="RESULTS", help="folder of fairseq-vgs evaluate abx"
    )
    _add_output(abx)


def run(args: argparse.Namespace) -> int:
    """Draw the plot; print the paths of what was written."""
    from fairseq_vgs.manifest.errors import ManifestError, fault

    if args.output.suffix.lower() != ".png":
        raise ManifestError(fault("OUTPUT", "must end in .png", str(args.output), "only PNG is written"))
    table = {"training": _plot_training, "probes": _plot_probes, "abx": _plot_abx}[args.plot](args)
    print(args.output)
    print(table)
    return 0


def _add_kind(kinds: Any, name: str, summary: str, *, log: str) -> None:
    parser = _kind_parser(kinds, name, summary)
    parser.add_argument("log", type=Path, metavar="LOG", help=log)
    _add_output(parser)


def _kind_parser(kinds: Any, name: str, summary: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = kinds.add_parser(
        name, help=summary, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    return parser


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "output", type=Path, metavar="OUTPUT.png", help="the picture; OUTPUT.csv comes beside it"
    )
    parser.add_argument("--force", action="store_true", help="replace existing files")


def _plot_training(args: argparse.Namespace) -> Path:
    from fairseq_vgs.evaluation.plots import plot_training
    from fairseq_vgs.evaluation.training_log import read_training_log

    log = read_training_log(args.log)
    table = plot_training(log, args.output, force=args.force)
    if log.n_rewinds:
        print(
            f"note: the run was resumed {log.n_rewinds} times; repeated updates count once", file=sys.stderr
        )
    return table


def _plot_probes(args: argparse.Namespace) -> Path:
    from fairseq_vgs.evaluation.probe_log import read_probes
    from fairseq_vgs.evaluation.probe_plot import plot_probes

    return plot_probes(read_probes(args.log), args.output, force=args.force)


def _plot_abx(args: argparse.Namespace) -> Path:
    from fairseq_vgs.evaluation.abx_plot import plot_abx
    from fairseq_vgs.evaluation.abx_results import read_abx

    return plot_abx({str(folder): read_abx(folder) for folder in args.results}, args.output, force=args.force)
