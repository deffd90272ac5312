"""Put the results of several runs side by side, with paired differences from the first.

RESULTS are folders of fairseq-vgs evaluate retrieval, abx or lexical, all of one kind, or folders with
several of these in them; or RUN folders after fairseq-vgs evaluate run, or single checkpoints' files
(RUN/evaluation/N.json). The table goes to stdout.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fairseq_vgs.files.output import refuse_existing

NAME = "compare"
HELP = "put the results of several runs side by side"
EPILOG = """\
examples:
  fairseq-vgs compare outputs/results/vgs outputs/results/vgs_plus
  fairseq-vgs compare results/vgs results/vgs_plus --titles VGS VGS+ --output outputs/comparison
  fairseq-vgs compare outputs/run_a outputs/run_b --updates 600
  fairseq-vgs compare a_abx_within_within b_abx_within_within --json | jq .differences

Of one RUN all checkpoints are compared, of several the last that all of them have; --updates chooses others.
Differences are computed item by item (queries, ABX cells or phone pairs, words), on the same resampled
images, phones or words. Recalls of evaluate retrieval --folds are compared where the pools are the same.
Runs on other data (hashes of the manifest, split, ABX items and conditions) are refused.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this subcommand's arguments."""
    parser.epilog = EPILOG
    parser.add_argument("results", type=Path, nargs="+", metavar="RESULTS", help="folders of evaluations")
    parser.add_argument(
        "--titles", nargs="+", metavar="TITLE", help="one for each (default: in what the paths differ)"
    )
    parser.add_argument(
        "--updates", type=int, nargs="+", metavar="N", help="these checkpoints of folders of evaluate run"
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="also write Markdown, LaTeX, CSV and JSON here"
    )
    parser.add_argument(
        "--allow-different-data",
        action="store_true",
        help="print runs on other data side by side, without differences",
    )
    parser.add_argument("--json", action="store_true", help="print comparison.json instead of the table")
    parser.add_argument("--seed", type=int, default=1, help="of resampling (default: %(default)s)")
    parser.add_argument("--force", action="store_true", help="replace existing files")


def run(args: argparse.Namespace) -> int:
    """Compare, print the table and write the files that were asked for."""
    from fairseq_vgs.evaluation import compare, compare_places
    from fairseq_vgs.evaluation.results import as_written
    from fairseq_vgs.report import comparison as compare_tables

    if args.output:
        refuse_existing(*(args.output / name for name in compare_tables.FILE_NAMES), force=args.force)
    results = compare_places.find_results(args.results, updates=args.updates)
    runs = compare.read_runs(results, titles=args.titles)
    comparison = compare.compare_runs(runs, seed=args.seed, allow_different_data=args.allow_different_data)
    content = compare_tables.as_json(comparison, command=args.command, seed=args.seed)
    if args.output:
        compare_tables.write_comparison(args.output, comparison, content=content, force=args.force)
    if args.json:
        print(as_written(content))
    else:
        print(compare_tables.as_text(comparison))
    if args.output:
        print(f"results: {args.output}", file=sys.stderr)
    return 0
