"""Build a data folder from a corpus: audio lists, pair tables, pictures, and a summary of what was left out.

The folder appears only when it is complete; --force replaces an older one that this command made.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
import os
import sys
from pathlib import Path
from typing import Any

from fairseq_vgs.cli.build_options import progress_bar, summary_table
from fairseq_vgs.cli.prepare_image_features import add_image_features
from fairseq_vgs.cli.prepare_items import add_items
from fairseq_vgs.cli.prepare_regions import add_regions
from fairseq_vgs.cli.prepare_text import add_text
from fairseq_vgs.cli.region_options import add_region_options, optional_picture_regions
from fairseq_vgs.options import add_options, read_options
from fairseq_vgs.prepare.build.folder import BuildOptions
from fairseq_vgs.prepare.corpora import CORPORA, Preparation

MAX_DEFAULT_JOBS = 8
NAME = "prepare"
HELP = "build a data folder from a corpus"
EPILOG = """\
examples:
  fairseq-vgs prepare scenes DATA                          scenes from the embedded set
  fairseq-vgs prepare scenes DATA --objects 300 --max-object-seconds 0
  fairseq-vgs prepare tuxpaint STAMPS DATA --language fr   from the unpacked Debian package
  fairseq-vgs prepare librispeech LibriSpeech DATA --subset dev-clean=valid --abx-items dev-clean.item
  fairseq-vgs prepare pairs MINE.csv DATA --audio-root RECORDINGS --image-root PHOTOS --pack zip
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one nested subcommand per corpus, and those that add to a data folder."""
    parser.epilog = EPILOG
    corpora = parser.add_subparsers(title="corpora", metavar="CORPUS", required=True)
    for name, preparation in CORPORA.items():
        _add_corpus(corpora, name, preparation)
    add_image_features(corpora)
    add_regions(corpora)
    add_items(corpora)
    add_text(corpora)


def run(args: argparse.Namespace) -> int:
    """Prepare the chosen corpus and print its splits, or all of the summary as JSON."""
    summary = args.prepare(args)
    if args.json:
        print(json.dumps(summary, ensure_ascii=False, indent=2))
    else:
        print("\n".join(getattr(args, "table", summary_table)(summary)))
        print(f"written to {args.output}", file=sys.stderr)
    return 0


def _add_corpus(corpora: Any, name: str, preparation: type[Preparation]) -> None:
    first, _, description = inspect.cleandoc(preparation.__doc__ or name).partition("\n")
    parser = corpora.add_parser(
        name,
        help=first.removesuffix("."),
        description=description.strip() or first,
        epilog="\n  ".join(["examples:", *preparation.examples]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    preparation.add_source(parser)
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="data folder to make")
    add_options(parser, BuildOptions, leave_out=preparation.without)
    add_options(parser, preparation)
    if preparation.has_pictures:
        add_region_options(parser)
    parser.add_argument("--json", action="store_true", help="print the whole summary as JSON")
    parser.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    jobs = min(os.cpu_count() or 1, MAX_DEFAULT_JOBS)
    parser.set_defaults(prepare=_prepare, preparation=preparation, jobs=jobs)


def _prepare(args: argparse.Namespace) -> dict[str, object]:
    preparation = read_options(args, args.preparation)
    options = dataclasses.replace(read_options(args, BuildOptions), regions=optional_picture_regions(args))
    with progress_bar("files") as progress:
        return preparation.prepare(args.source, args.output, options=options, progress=progress)
