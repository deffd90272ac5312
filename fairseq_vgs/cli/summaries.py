"""Progress bars, and tables of the commands that build a data folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fairseq_vgs.files.parallel import Progress


@contextmanager
def progress_bar(title: str, unit: str = "") -> Iterator[Progress]:
    """Yield a function that shows progress with the time left, on stderr if it is a terminal."""
    from tqdm import tqdm

    # disable=None turns the bar off where stderr is no terminal.
    with tqdm(desc=title, unit=unit, file=sys.stderr, disable=None, leave=False) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield progress


def speed(n_files: int, n_bytes: int, seconds: float) -> str:
    """Describe how fast files were read."""
    rate = n_bytes / 1e6 / max(seconds, 1e-9)
    per_second = f"{n_files / max(seconds, 1e-9):,.0f} files/s, {rate:,.1f} MB/s"
    return f"{n_files:,} files of {n_bytes / 1e6:,.1f} MB in {seconds:,.1f} s: {per_second}"


def summary_table(summary: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line per split, and one per reason for leaving items out."""
    splits: Mapping[str, Mapping[str, Any]] = summary["splits"]
    columns = [name for name, value in next(iter(splits.values())).items() if not isinstance(value, Mapping)]
    width = max(8, *(len(split) + 1 for split in splits))
    yield "".join([f"{'split':<{width}}", *(f"{name:>11}" for name in columns)])
    for split, counts in splits.items():
        yield "".join([f"{split:<{width}}", *(f"{counts[name]:>11,}" for name in columns)])
    if converted := summary.get("files", {}).get("converted"):
        reasons = ", ".join(f"{count:,} {why}" for why, count in summary.get("converted", {}).items())
        yield f"converted: {converted:,} recordings to 16 kHz mono FLAC ({summary['resampler']}): {reasons}"
    if regions := summary.get("regions"):
        yield f"{regions['regions']:,} regions of {regions['images']:,} pictures, {regions['dims']} dims"
    for reason, excluded in summary["excluded"].items():
        yield f"left out: {excluded['count']:,} {reason}"
