"""Build a data folder from a corpus: audio lists, pair tables, pictures, and a summary of excluded items.

The folder appears only when it is complete; --force replaces one that this command made.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
import time
from pathlib import Path
from typing import Any

from fairseq_vgs.cli.parser import add_command, add_module, usage_errors
from fairseq_vgs.cli.summaries import progress_bar, speed, summary_table
from fairseq_vgs.files.output import refuse_output, try_output
from fairseq_vgs.files.parallel import n_cores
from fairseq_vgs.options import add_options, read_options
from fairseq_vgs.prepare.build.options import BuildOptions
from fairseq_vgs.prepare.corpora import CORPORA, Preparation
from fairseq_vgs.regions.options import RegionOptions

EXTENSIONS = {
    "image-features": "Features of a frozen image backbone, for all pictures of a data folder",
    "regions": "Region features: from LXMERT, from FaST-VGS, or computed from pictures",
    "items": "ABX items from phone alignments (.lab, TextGrid, flite, LibriSpeech alignments)",
    "text": "SentencePiece units of the captions' texts, and fairseq's label files",
}
EPILOG = """\
examples:
  fairseq-vgs prepare scenes DATA                          scenes from the embedded set
  fairseq-vgs prepare scenes DATA --objects 300 --max-object-seconds 0
  fairseq-vgs prepare tuxpaint STAMPS DATA --language fr   from the unpacked Debian package
  fairseq-vgs prepare librispeech LibriSpeech DATA --subset dev-clean=valid --abx-items dev-clean.item
  fairseq-vgs prepare pairs MINE.csv DATA --audio-root RECORDINGS --image-root PHOTOS --pack zip
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one nested command per corpus, and those that extend a data folder."""
    parser.epilog = EPILOG
    corpora = parser.add_subparsers(
        title="corpora, and what adds to a data folder", metavar="CORPUS", required=True
    )
    for name, preparation in CORPORA.items():
        _add_corpus(corpora, name, preparation)
    for name, summary in EXTENSIONS.items():
        add_module(corpora, name, summary, f"prepare_{name.replace('-', '_')}")


def run(args: argparse.Namespace) -> int:
    """Prepare the corpus; print its splits, or the whole summary as JSON."""
    start = time.perf_counter()
    summary = args.prepare(args)
    seconds = time.perf_counter() - start
    if args.json:
        print(json.dumps(summary, ensure_ascii=False, indent=2))
    else:
        print("\n".join(getattr(args, "table", summary_table)(summary)))
        if (read := summary.get("read")) and read["files"]:
            print(f"read {speed(read['files'], read['bytes'], seconds)}", file=sys.stderr)
        print(f"written to {args.output}", file=sys.stderr)
    return 0


def _add_corpus(corpora: Any, name: str, preparation: type[Preparation]) -> None:
    first, _, description = inspect.cleandoc(preparation.__doc__ or name).partition("\n")
    examples = "\n  ".join(["examples:", *preparation.examples])
    texts = {"description": description.strip() or first, "examples": examples}
    summary = first.removesuffix(".")
    parser = add_command(corpora, name, summary, **texts, prepare=_prepare, preparation=preparation)
    preparation.add_source(parser)
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="data folder to make")
    add_options(parser, BuildOptions, leave_out=preparation.without)
    add_options(parser, preparation)
    if preparation.has_pictures:
        add_options(parser.add_argument_group("region features of the pictures"), RegionOptions)
    parser.add_argument("--json", action="store_true", help="print the whole summary as JSON")
    parser.set_defaults(jobs=n_cores())


def _prepare(args: argparse.Namespace) -> dict[str, object]:
    output: Path = args.output
    # before the network for regions is loaded; what --force may replace, the preparation knows
    if args.force:
        try_output(output.absolute().parent, option="OUTPUT")
    else:
        refuse_output(output, maker="", force=False)
    with usage_errors(args):
        preparation = read_options(args, args.preparation)
        regions = read_options(args, RegionOptions).open_if_wanted()
        options = read_options(args, BuildOptions, regions=regions, command_line=args.command)
    with progress_bar("preparing files") as progress:
        return preparation.prepare(args.source, output, options=options, progress=progress)
