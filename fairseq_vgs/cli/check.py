"""List all faults of a data folder, one line each, on stdout.

Media are read and decoded unless --no-media is given. Exit status 1 if there is any fault.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairseq_vgs.cli.summaries import progress_bar, speed
from fairseq_vgs.files.parallel import n_cores
from fairseq_vgs.options import option, positive

if TYPE_CHECKING:
    from fairseq_vgs.manifest.check import CheckReport

SCHEMA_VERSION = 1
EPILOG = """\
examples:
  fairseq-vgs check DATA
  fairseq-vgs check DATA --no-media      tables only: quick
  fairseq-vgs check DATA --json | jq .faults
"""


@dataclass(frozen=True)
class Options:
    """Options of ``check``."""

    data: Path = option(help="data folder, as in task.data", positional=True)
    json: bool = option(False, help="print one JSON object instead of lines")
    read_media: bool = option(
        True, name="--no-media", help="do not open audio, pictures and features, only check that they exist"
    )
    jobs: int | None = option(
        None,
        help="threads; results are the same (default: as many as CPUs)",
        name="--jobs --workers",
        metavar="N",
        parse=positive,
    )


def run(args: argparse.Namespace) -> int:
    """Check the folder; return 1 if it has faults."""
    from fairseq_vgs.manifest.check import inspect_folder

    start = time.perf_counter()
    with progress_bar("reading media", unit="file") as progress:
        report = inspect_folder(
            args.data, read_media=args.read_media, jobs=args.jobs or n_cores(), progress=progress
        )
    seconds = time.perf_counter() - start
    if args.json:
        print(json.dumps(_as_json(args.data, report), ensure_ascii=False, indent=2))
    else:
        for item in report.faults:
            print(item)
    for note in report.notes:
        print(f"note: {note}", file=sys.stderr)
    if report.bytes_read:
        print(f"read {speed(report.n_media, report.bytes_read, seconds)}", file=sys.stderr)
    found = {0: "no faults", 1: "1 fault"}.get(len(report.faults), f"{len(report.faults):,} faults")
    counted = ", ".join(f"{count:,} {what}" for what, count in report.counts.get("all", {}).items())
    summary = f"{found} in {counted}" if counted else found
    print(f"{args.data}: {summary}{'' if report.media_read else ' (media not read)'}", file=sys.stderr)
    return 1 if report.faults else 0


def _as_json(folder: Path, report: CheckReport) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "folder": str(folder),
        "media_read": report.media_read,
        "n_faults": len(report.faults),
        "faults": [asdict(item) for item in report.faults],
        "notes": list(report.notes),
        "counts": report.counts,
    }
