"""Options of all commands that build a data folder from a corpus."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairseq_vgs.cli.region_options import optional_picture_regions, positive

if TYPE_CHECKING:
    from fairseq_vgs.files.parallel import Progress
    from fairseq_vgs.prepare.build.folder import BuildOptions

MAX_DEFAULT_JOBS = 8


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Add OUTPUT and what every ``prepare`` command that makes a folder understands."""
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="data folder to make")
    parser.add_argument("--force", action="store_true", help="replace OUTPUT if this command made it")
    parser.add_argument(
        "--relative-root",
        action="store_true",
        help="audio lists start from their own folder, which can then be moved; stock fairseq tasks need the "
        "absolute path that is written otherwise",
    )
    parser.add_argument(
        "--jobs",
        "--workers",
        type=positive,
        default=min(os.cpu_count() or 1, MAX_DEFAULT_JOBS),
        metavar="N",
        help="threads; the result does not depend on it (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print the whole summary as JSON")
    parser.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def add_build_options(parser: argparse.ArgumentParser) -> None:
    """Add OUTPUT and how recordings and pictures of a corpus get there."""
    add_output_options(parser)
    parser.add_argument(
        "--convert",
        choices=("auto", "always", "never"),
        default="auto",
        help="recordings as 16 kHz mono FLAC in OUTPUT/speech: if any has another rate, always, or never, "
        "which makes other rates a fault (default: %(default)s)",
    )
    parser.add_argument(
        "--pack",
        choices=("zip", "tar"),
        default="",
        help="store recordings and pictures in uncompressed archives of about 1 GiB, read at random access "
        "(default: as files; pictures, and recordings of 16 kHz, stay where they are)",
    )
    parser.add_argument(
        "--skip-bad",
        action="store_true",
        help="leave out media that are missing or cannot be used, and name them in summary.json; otherwise "
        "they are listed and nothing is made",
    )


def build_options(args: argparse.Namespace) -> BuildOptions:
    """Return the options that were given."""
    from fairseq_vgs.prepare.build.folder import BuildOptions

    return BuildOptions(
        convert=args.convert,
        pack=args.pack,
        skip_bad=args.skip_bad,
        relative_root=args.relative_root,
        force=args.force,
        jobs=args.jobs,
        regions=optional_picture_regions(args),
    )


@contextmanager
def progress_bar(unit: str) -> Iterator[Progress]:
    """Give a function that shows progress with the time left, on stderr if that is a terminal."""
    from tqdm import tqdm

    # disable=None turns the bar off where stderr is no terminal.
    with tqdm(desc=f"preparing {unit}", unit="", file=sys.stderr, disable=None, leave=False) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield progress


def summary_table(summary: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line per split, and one for each reason to leave something out."""
    splits: Mapping[str, Mapping[str, Any]] = summary["splits"]
    columns = [name for name, value in next(iter(splits.values())).items() if not isinstance(value, Mapping)]
    width = max(8, *(len(split) + 1 for split in splits))
    yield "".join([f"{'split':<{width}}", *(f"{name:>11}" for name in columns)])
    for split, counts in splits.items():
        yield "".join([f"{split:<{width}}", *(f"{counts[name]:>11,}" for name in columns)])
    if converted := summary.get("files", {}).get("converted"):
        yield f"converted: {converted:,} recordings to 16 kHz mono FLAC ({summary['resampler']})"
    if regions := summary.get("regions"):
        yield f"{regions['regions']:,} regions of {regions['images']:,} pictures, {regions['dims']} dims"
    for reason, excluded in summary["excluded"].items():
        yield f"left out: {excluded['count']:,} {reason}"
