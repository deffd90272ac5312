"""``fairseq-vgs prepare librispeech``, ``lextest`` and ``pairs``: speech alone, and a user's own pairs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fairseq_vgs.cli.build_options import add_build_options, add_output_options, build_options, progress_bar
from fairseq_vgs.cli.region_options import add_region_options

LIBRISPEECH = """\
LibriSpeech as it is unpacked (SUBSET/SPEAKER/CHAPTER/*.flac and *.trans.txt): audio lists with speakers and
transcripts. Without --subset, train-* becomes train, dev-clean valid, test-clean test, dev-other valid_other
and test-other test_other, as far as they are there.
"""
LIBRISPEECH_EXAMPLES = """\
examples:
  fairseq-vgs prepare librispeech LibriSpeech DATA
  fairseq-vgs prepare librispeech LibriSpeech DATA --subset dev-clean=valid --abx-items dev-clean.item
"""
LEXTEST = """\
CDI-Lextest or COCO-Lextest as it is cloned (github.com/SPEECHCOG/CDI_lextest, COCO_lextest): its recordings
of single words at 16 kHz, for fairseq-vgs evaluate lexical.
"""
LEXTEST_EXAMPLES = """\
examples:
  fairseq-vgs prepare lextest CDI_lextest CDI
  fairseq-vgs evaluate lexical checkpoints/checkpoint_best.pt CDI
"""
PAIRS = """\
Recordings and pictures of your own: a table (.csv, .tsv or .jsonl) with the columns audio, image and, if you
like, speaker, text and split. Paths start from the table's folder and must stay below it. Without splits,
images are divided; copies of a picture or a recording stay in one split.
"""
PAIRS_EXAMPLES = """\
examples:
  fairseq-vgs prepare pairs MINE.csv DATA
  fairseq-vgs prepare pairs MINE.csv DATA --audio-root RECORDINGS --image-root PHOTOS --pack zip
  fairseq-vgs prepare pairs MINE.tsv DATA --audio-column clip --regions efficientnet --grid 3
"""
COLUMNS = ("audio", "image", "speaker", "text", "split")


def add_librispeech(corpora: Any) -> None:
    """Add ``prepare librispeech``."""
    parser = _add(
        corpora,
        "librispeech",
        "LibriSpeech: speech alone, with speakers and transcripts",
        LIBRISPEECH,
        LIBRISPEECH_EXAMPLES,
    )
    parser.add_argument("librispeech_dir", type=Path, metavar="LIBRISPEECH", help="folder of the subsets")
    add_build_options(parser)
    parser.add_argument(
        "--subset",
        action="append",
        default=[],
        metavar="SUBSET=SPLIT",
        help="take this subset, as part of this split; repeat for more",
    )
    parser.add_argument(
        "--abx-items", type=Path, metavar="FILE", help="ABX item file of one subset, checked and copied along"
    )
    parser.set_defaults(prepare=_prepare_librispeech)


def add_lextest(corpora: Any) -> None:
    """Add ``prepare lextest``."""
    parser = _add(corpora, "lextest", "CDI-Lextest, COCO-Lextest: single words", LEXTEST, LEXTEST_EXAMPLES)
    parser.add_argument(
        "lextest_dir", type=Path, metavar="LEXTEST", help="the repository, or the folder of its recordings"
    )
    add_output_options(parser)
    parser.set_defaults(prepare=_prepare_lextest)


def add_pairs(corpora: Any) -> None:
    """Add ``prepare pairs``."""
    parser = _add(
        corpora,
        "pairs",
        "your own recordings and pictures, listed in a CSV, TSV or JSONL file",
        PAIRS,
        PAIRS_EXAMPLES,
    )
    parser.add_argument("pairs_table", type=Path, metavar="TABLE", help=".csv, .tsv or .jsonl file")
    add_build_options(parser)
    parser.add_argument(
        "--audio-root", type=Path, metavar="FOLDER", help="folder that audio paths start from"
    )
    parser.add_argument(
        "--image-root", type=Path, metavar="FOLDER", help="folder that image paths start from"
    )
    for column in COLUMNS:
        parser.add_argument(
            f"--{column}-column",
            default=column,
            metavar="NAME",
            help=f"header of the column of TABLE that holds the {column} (default: %(default)s)"
            + ("; NONE: recordings alone" if column == "image" else ""),
        )
    parser.add_argument(
        "--keep-together",
        nargs="+",
        choices=("text", "speaker"),
        default=(),
        help="images whose captions share a text or a speaker stay in one split, too",
    )
    for split in ("valid", "test"):
        parser.add_argument(
            f"--{split}-share",
            type=float,
            default=0.1,
            metavar="SHARE",
            help=f"share of images for {split} (default: %(default)s)",
        )
    parser.add_argument(
        "--extra-split",
        action="append",
        default=[],
        metavar="NAME",
        help="a split of TABLE whose name does not begin with train, valid, dev, val or test; repeat for "
        "more",
    )
    parser.add_argument(
        "--seed", type=int, default=1, metavar="N", help="seed of the splits (default: %(default)s)"
    )
    add_region_options(parser)
    parser.set_defaults(prepare=_prepare_pairs)


def _add(corpora: Any, name: str, summary: str, description: str, examples: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = corpora.add_parser(
        name,
        help=summary,
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


def _prepare_librispeech(args: argparse.Namespace) -> dict[str, object]:
    from fairseq_vgs.prepare.corpora.librispeech import LibrispeechConfig, parse_subsets, prepare_librispeech

    config = LibrispeechConfig(subsets=parse_subsets(args.subset), abx_items=args.abx_items)
    with progress_bar("files") as progress:
        return prepare_librispeech(
            args.librispeech_dir, args.output, config=config, options=build_options(args), progress=progress
        )


def _prepare_lextest(args: argparse.Namespace) -> dict[str, object]:
    from fairseq_vgs.prepare.build.folder import BuildOptions
    from fairseq_vgs.prepare.corpora.lextest import prepare_lextest

    # Without a word's first recording its second would be compared with the others' first: no --skip-bad.
    options = BuildOptions(relative_root=args.relative_root, force=args.force, jobs=args.jobs)
    with progress_bar("files") as progress:
        return prepare_lextest(args.lextest_dir, args.output, options=options, progress=progress)


def _prepare_pairs(args: argparse.Namespace) -> dict[str, object]:
    from fairseq_vgs.prepare.corpora.pairs import PairsConfig, prepare_pairs

    config = PairsConfig(
        audio_root=args.audio_root,
        image_root=args.image_root,
        columns={column: getattr(args, f"{column}_column") for column in COLUMNS},
        valid_share=args.valid_share,
        test_share=args.test_share,
        keep_together=tuple(args.keep_together),
        extra_splits=tuple(args.extra_split),
        seed=args.seed,
    )
    with progress_bar("files") as progress:
        return prepare_pairs(
            args.pairs_table, args.output, config=config, options=build_options(args), progress=progress
        )
