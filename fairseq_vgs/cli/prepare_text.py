"""``fairseq-vgs prepare text``: text units, and label files for fairseq's CTC fine-tuning."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairseq_vgs.options import add_options, option, read_options
from fairseq_vgs.prepare.text import TextConfig, prepare_text

DESCRIPTION = """\
Train SentencePiece units on the texts of the training split (SPLIT.pairs.tsv, SPLIT.utterances.tsv) and
write, for every split with such a table, what fairseq's task audio_finetuning reads: SPLIT.tsv (the
utterances that have a text), SPLIT.ltr (their units) and dict.ltr.txt, with spm.model. Utterances without
text are left out and counted.
"""
EPILOG = """\
examples:
  fairseq-vgs prepare text DATA                            characters, in DATA/text
  fairseq-vgs prepare text DATA --unit-type unigram --vocabulary-size 500
  fairseq-vgs prepare text manifests/embedded outputs/embedded_text
"""


@dataclass(frozen=True)
class Options:
    """Options of ``prepare text``."""

    data: Path = option(help="data folder with texts", positional=True)
    output: Path | None = option(None, help="folder to make (default: DATA/text)", positional=True)
    force: bool = option(False, help="replace OUTPUT if this command made it")
    json: bool = option(False, help="print the whole summary as JSON")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command and of the units."""
    add_options(parser, Options)
    add_options(parser, TextConfig)


def prepare(args: argparse.Namespace) -> dict[str, Any]:
    """Write units and label files."""
    args.output = args.output or args.data / "text"
    return prepare_text(args.data, args.output, config=read_options(args, TextConfig), force=args.force)


def table(summary: Mapping[str, Any]) -> Iterator[str]:
    """Yield the counts."""
    yield f"{summary['units']['count']:,} units"
    for split, counts in summary["splits"].items():
        yield f"{split:<8}{counts['utterances']:>10,} utterances{counts['units']:>12,} units"
    for reason, excluded in summary["excluded"].items():
        yield f"left out: {excluded['count']:,} {reason}"
