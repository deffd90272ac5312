"""``fairseq-vgs prepare text``: text units, and label files for fairseq's CTC fine-tuning."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

DESCRIPTION = """\
Trains SentencePiece units on the texts of the training split (SPLIT.pairs.tsv, SPLIT.utterances.tsv) and
writes, for every split with such a table, what fairseq's task audio_finetuning reads: SPLIT.tsv (the
utterances that have a text), SPLIT.ltr (their units) and dict.ltr.txt; beside them spm.model. Utterances
without text are left out and counted.
"""
EPILOG = """\
examples:
  fairseq-vgs prepare text DATA                            characters, in DATA/text
  fairseq-vgs prepare text DATA --unit-type unigram --vocabulary-size 500
  fairseq-vgs prepare text manifests/embedded outputs/embedded_text
"""


def add_text(corpora: Any) -> None:
    """Add ``prepare text``."""
    parser = corpora.add_parser(
        "text",
        help="SentencePiece units of the captions' texts, and fairseq's label files",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="data folder with texts")
    parser.add_argument(
        "output", type=Path, nargs="?", metavar="OUTPUT", help="folder to make (default: DATA/text)"
    )
    parser.add_argument(
        "--unit-type",
        choices=("char", "unigram", "bpe"),
        default="char",
        help="characters, or pieces of words by a unigram model or byte-pair encoding (default: %(default)s)",
    )
    parser.add_argument(
        "--vocabulary-size",
        type=int,
        default=1000,
        metavar="N",
        help="units, the unknown one included; characters: at most (default: %(default)s)",
    )
    parser.add_argument(
        "--character-coverage",
        type=float,
        default=1.0,
        metavar="SHARE",
        help="share of the texts' characters that get units; 0.9995 for large sets (default: %(default)s)",
    )
    parser.add_argument(
        "--normalization",
        choices=("nmt_nfkc_cf", "nmt_nfkc", "nfkc_cf", "nfkc", "identity"),
        default="nmt_nfkc_cf",
        help="SentencePiece's rule; those with cf fold case (default: %(default)s)",
    )
    parser.add_argument(
        "--train-split",
        default="train",
        metavar="SPLIT",
        help="train units on this split (default: %(default)s)",
    )
    parser.add_argument("--force", action="store_true", help="replace OUTPUT if this command made it")
    parser.add_argument("--json", action="store_true", help="print the whole summary as JSON")
    parser.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    parser.set_defaults(prepare=_prepare_text, table=_table)


def _prepare_text(args: argparse.Namespace) -> dict[str, Any]:
    from fairseq_vgs.prepare.text import TextConfig, prepare_text

    args.output = args.output or args.data / "text"
    config = TextConfig(
        unit_type=args.unit_type,
        vocabulary_size=args.vocabulary_size,
        character_coverage=args.character_coverage,
        normalization=args.normalization,
        train_split=args.train_split,
    )
    return prepare_text(args.data, args.output, config=config, force=args.force)


def _table(summary: Mapping[str, Any]) -> Iterator[str]:
    yield f"{summary['units']['count']:,} units"
    for split, counts in summary["splits"].items():
        yield f"{split:<8}{counts['utterances']:>10,} utterances{counts['units']:>12,} units"
    for reason, excluded in summary["excluded"].items():
        yield f"left out: {excluded['count']:,} {reason}"
