"""``fairseq-vgs prepare items``: ABX item files from phone alignments."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fairseq_vgs.options import option

DESCRIPTION = """\
Make a ZeroSpeech ABX item file from phone alignments: .lab (festvox), .TextGrid (Praat, Montreal Forced
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


@dataclass(frozen=True)
class Options:
    """Options of ``prepare items``."""

    alignments: tuple[Path, ...] = option(
        help="alignment files, or folders to search for them", positional=True
    )
    output: Path = option(help="item file to write", positional=True)
    unit: Literal["triphone", "phoneme"] = option("triphone", help="a phone with its neighbours, or alone")
    speaker: str | None = option(
        None, help="the speaker of all recordings", metavar="NAME", exclusive="speaker", needed=True
    )
    speaker_before: str | None = option(
        None,
        help="the speaker is the part of a recording's name before TEXT; '-' for LibriSpeech",
        metavar="TEXT",
        exclusive="speaker",
    )
    speaker_folder: bool = option(
        False,
        help="the speaker is the folder of the alignment, as with the Montreal Forced Aligner",
        exclusive="speaker",
    )
    speakers: Path | None = option(
        None,
        help="table with the columns file, speaker and, if alignments use other names, audio_id",
        metavar="TABLE",
        exclusive="speaker",
    )
    pauses: tuple[str, ...] | None = option(
        None,
        help="labels that are not phones (default: none, #, h#, pau, sil, sp, spn, ssil, <eps>, <sil>)",
        metavar="LABEL",
    )
    strip_stress: bool = option(False, help="treat AH0 and AH1 as the same phone AH")
    tier: str | None = option(None, help="tier of the TextGrids (default: the phone tier)", metavar="NAME")
    force: bool = option(False, help="replace OUTPUT")
    json: bool = option(False, help="print the counts as JSON")


def prepare(args: argparse.Namespace) -> dict[str, object]:
    """Make the item file."""
    from fairseq_vgs.alignments.items import PAUSES, Speakers, prepare_items, read_speakers

    of_all = Speakers(everyone=args.speaker, separator=args.speaker_before, folders=args.speaker_folder)
    return prepare_items(
        args.alignments,
        args.output,
        speakers=read_speakers(args.speakers) if args.speakers else of_all,
        unit=args.unit,
        pauses={"", *(label.lower() for label in args.pauses)} if args.pauses else PAUSES,
        strip_stress=args.strip_stress,
        tier=args.tier,
        force=args.force,
    )


def table(summary: Mapping[str, Any]) -> Iterator[str]:
    """Yield the counts."""
    yield f"{summary['items']:,} {summary['unit']} items"
    yield f"  of {summary['phones']:,} phones in {summary['recordings']:,} recordings"
    for reason, found in summary["faulty"].items():
        yield f"{found['count']:,} x {reason}: {found['items_left_out']:,} items left out"
        yield f"  {', '.join(found['places'])}{', ...' if found['count'] > len(found['places']) else ''}"
