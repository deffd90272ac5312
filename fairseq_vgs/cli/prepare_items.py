"""``fairseq-vgs prepare items``: ABX item files from phone alignments."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

DESCRIPTION = """\
Makes a ZeroSpeech ABX item file from phone alignments: .lab (festvox), .TextGrid (Praat, Montreal Forced
Aligner, LibriSpeech alignments), .flite (printed by flite -psdur), .alignment.txt (LibriSpeech alignments,
condensed: the items are words) and .tsv (audio_id, onset, offset, phone). Items with phones that overlap or
have no duration are left out and counted.
"""
EPILOG = """\
examples:
  fairseq-vgs prepare items LibriSpeech/dev-clean dev-clean.item --speaker-before - --strip-stress
  fairseq-vgs prepare items ALIGNED mine.item --speaker-folder      (what mfa align wrote: ALIGNED/SPEAKER)
  fairseq-vgs prepare items VOICE/lab VOICE.item --speaker nsh --unit phoneme
  fairseq-vgs prepare items ABX/alignments.tsv ABX/triphone.item --speakers ABX/utterances.tsv
"""


def add_items(corpora: Any) -> None:
    """Add ``prepare items``."""
    parser = corpora.add_parser(
        "items",
        help="ABX items from phone alignments (.lab, TextGrid, flite, LibriSpeech alignments)",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "alignments",
        type=Path,
        nargs="+",
        metavar="ALIGNMENTS",
        help="alignment files, or folders to search for them",
    )
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="item file to write")
    parser.add_argument(
        "--unit",
        choices=("triphone", "phoneme"),
        default="triphone",
        help="a phone with its neighbours, or alone (default: %(default)s)",
    )
    speaker = parser.add_mutually_exclusive_group(required=True)
    speaker.add_argument("--speaker", metavar="NAME", help="the speaker of all recordings")
    speaker.add_argument(
        "--speaker-before",
        metavar="TEXT",
        help="the speaker is what stands before TEXT in a recording's name; '-' for LibriSpeech",
    )
    speaker.add_argument(
        "--speaker-folder",
        action="store_true",
        help="the speaker is the folder of the alignment, as the Montreal Forced Aligner writes them",
    )
    speaker.add_argument(
        "--speakers",
        type=Path,
        metavar="TABLE",
        help="table with the columns file, speaker and, where alignments say otherwise than file, audio_id",
    )
    parser.add_argument(
        "--pauses",
        nargs="+",
        metavar="LABEL",
        help="labels of what is no phone (default: none, #, h#, pau, sil, sp, spn, ssil, <eps>, <sil>)",
    )
    parser.add_argument("--strip-stress", action="store_true", help="AH0 and AH1 are the same phone AH")
    parser.add_argument("--tier", metavar="NAME", help="tier of the TextGrids (default: the one of phones)")
    parser.add_argument("--force", action="store_true", help="replace OUTPUT")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")
    parser.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    parser.set_defaults(prepare=_prepare_items, table=_table)


def _prepare_items(args: argparse.Namespace) -> dict[str, object]:
    from fairseq_vgs.prepare.alignments.items import PAUSES, Speakers, prepare_items, read_speakers

    speakers = (
        read_speakers(args.speakers)
        if args.speakers
        else Speakers(everyone=args.speaker, separator=args.speaker_before, folders=args.speaker_folder)
    )
    return prepare_items(
        args.alignments,
        args.output,
        speakers=speakers,
        unit=args.unit,
        pauses={"", *(label.lower() for label in args.pauses)} if args.pauses else PAUSES,
        strip_stress=args.strip_stress,
        tier=args.tier,
        force=args.force,
    )


def _table(summary: Mapping[str, Any]) -> Iterator[str]:
    yield f"{summary['items']:,} {summary['unit']} items"
    yield f"  of {summary['phones']:,} phones in {summary['recordings']:,} recordings"
    for reason, found in summary["faulty"].items():
        yield f"{found['count']:,} x {reason}: {found['items_left_out']:,} items left out"
        yield f"  {', '.join(found['places'])}{', ...' if found['count'] > len(found['places']) else ''}"
