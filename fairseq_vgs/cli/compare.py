"""Compare the results of several runs, with paired differences from the first.

RESULTS are folders of one evaluation (fairseq-vgs evaluate retrieval, abx, lexical, ...) or folders that hold
several of these; or RUN folders after fairseq-vgs evaluate run, or their checkpoints (RUN/evaluation/N). The
table goes to stdout.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from fairseq_vgs.options import option, read_options

EPILOG = """\
examples:
  fairseq-vgs compare outputs/results/vgs outputs/results/vgs_plus
  fairseq-vgs compare results/vgs results/vgs_plus --titles VGS VGS+ --output outputs/comparison
  fairseq-vgs compare outputs/run_a outputs/run_b --updates 600
  fairseq-vgs compare a_abx_within_within b_abx_within_within --json | jq .differences

All checkpoints of one RUN are compared; of several, the last that all of them have. --updates chooses others.
Differences are computed item by item (queries, phone pairs, words), on the same resampled images, phones or
words. Recalls of evaluate retrieval --folds are compared if the pools are the same. Runs on different data
(hashes of the data folder, split, ABX items and conditions) are refused.
"""


@dataclass(frozen=True)
class Options:
    """Options of ``compare``."""

    results: tuple[Path, ...] = option(help="folders of evaluations", positional=True)
    titles: tuple[str, ...] | None = option(
        None, metavar="TITLE", help="one for each (default: where the paths differ)"
    )
    updates: tuple[int, ...] | None = option(None, metavar="N", help="only these checkpoints of evaluate run")
    output: Path | None = option(None, metavar="DIR", help="also write Markdown, LaTeX, CSV and JSON here")
    allow_different_data: bool = option(False, help="print runs on different data without differences")
    json: bool = option(False, help="print comparison.json instead of the table")
    seed: int = option(1, help="seed of the resampling")
    force: bool = option(False, help="replace existing files")


def run(args: argparse.Namespace) -> int:
    """Compare, print the table and write files if asked.

    Raises:
        FaultError: Existing or unwritable output, or results that cannot be compared.
    """
    from fairseq_vgs.evaluation import compare
    from fairseq_vgs.evaluation.results import as_written
    from fairseq_vgs.files.output import refuse_existing, try_output
    from fairseq_vgs.report import comparison as tables

    settings = read_options(args, Options)
    if settings.output:
        refuse_existing(*(settings.output / name for name in tables.FILE_NAMES), force=settings.force)
        try_output(settings.output, option="--output")
    results = compare.find_results(settings.results, updates=settings.updates)
    runs = compare.read_runs(results, titles=settings.titles)
    found = compare.compare_runs(runs, seed=settings.seed, allow_different_data=settings.allow_different_data)
    content = tables.as_json(found, command=args.command, seed=settings.seed)
    if settings.output:
        tables.write_comparison(settings.output, found, content=content, force=settings.force)
    print(as_written(content) if settings.json else tables.as_text(found))
    if settings.output:
        print(f"results: {settings.output}", file=sys.stderr)
    return 0
