"""Make an HTML page of retrieval results: listen to the query, look at the top 5 pictures, and the reverse.

The page works offline from its folder. It shows a seeded draw of queries and the worst ones, the summary
table against the untrained model and chance, and a plot.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

NAME = "gallery"
HELP = "make an HTML page to listen to queries and look at answers"
DEFAULT_PLOT = "training.png"
EPILOG = """\
examples:
  fairseq-vgs gallery results/test DATA gallery
  fairseq-vgs gallery results/test DATA gallery --queries 30 --plot training.png --force

RESULTS is a folder written by fairseq-vgs evaluate retrieval; a training.png in it goes onto the page.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this subcommand's arguments."""
    parser.epilog = EPILOG
    parser.add_argument(
        "results", type=Path, metavar="RESULTS", help="folder of fairseq-vgs evaluate retrieval"
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="the manifest folder that was evaluated")
    parser.add_argument(
        "output", type=Path, metavar="OUTPUT", help="folder of the page; open OUTPUT/index.html"
    )
    parser.add_argument(
        "--queries",
        type=_positive_integer,
        default=12,
        metavar="N",
        help="queries per direction (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="of the drawing of queries (default: %(default)s)"
    )
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="PNG",
        help=f"plot to show (default: RESULTS/{DEFAULT_PLOT} if it is there)",
    )
    parser.add_argument("--force", action="store_true", help="replace an existing page")


def run(args: argparse.Namespace) -> int:
    """Make the page; print its path."""
    from fairseq_vgs.evaluation.gallery import build_gallery

    plot = args.plot
    if plot is None and (args.results / DEFAULT_PLOT).is_file():
        plot = args.results / DEFAULT_PLOT
    page = build_gallery(
        args.results,
        args.data,
        args.output,
        n_queries=args.queries,
        seed=args.seed,
        plot=plot,
        force=args.force,
    )
    print(page)
    if plot is None:
        print(f"note: no plot on the page; there is no {args.results / DEFAULT_PLOT}", file=sys.stderr)
    return 0


def _positive_integer(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text}")
    return value
