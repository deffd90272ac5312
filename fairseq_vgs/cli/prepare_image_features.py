"""``fairseq-vgs prepare image-features``: features of a frozen image backbone."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fairseq_vgs.device import device_option, resolve_device
from fairseq_vgs.files.parallel import n_cores
from fairseq_vgs.options import option, positive
from fairseq_vgs.regions.options import GRID_HELP, Grid, parse_grid

DESCRIPTION = """\
Run a backbone from a local Hugging Face directory over all pictures of a data folder and write regions.npy
and regions.tsv, which training reads instead of the pictures (the default,
model.image_encoder=regions). Pictures are resized to the backbone's square; nothing is downloaded. Repeat the
command to continue an interrupted run.
"""
EPILOG = """\
examples:
  fairseq-vgs prepare image-features DATA --backbone dinov2-base             one region per picture
  fairseq-vgs prepare image-features DATA --backbone dinov2-base --grid 6    36 regions per picture
"""
DEFAULT_MAX_REGIONS = 36


def _grid(text: str) -> Grid | int:
    return 0 if text == "0" else parse_grid(text)


@dataclass(frozen=True)
class Options:
    """Options of ``prepare image-features``."""

    output: Path = option(help="data folder with pictures", positional=True, metavar="DATA")
    backbone: Path = option(
        help="local Hugging Face directory of the backbone: config.json and weights", metavar="DIR"
    )
    grid: Grid | int = option(
        0,
        help=f"{GRID_HELP}, means of the backbone's tokens; 0: one region, its pooled output",
        metavar="N",
        parse=_grid,
    )
    image_size: int | None = option(
        None, help="side of the square (default: the backbone's)", metavar="PIXELS", parse=positive
    )
    batch_size: int = option(32, help="pictures at once", metavar="N", parse=positive)
    device: str = device_option()
    jobs: int | None = option(
        None, help="threads that decode (default: as many as CPUs)", metavar="N", parse=positive
    )
    force: bool = option(False, help="replace existing regions")
    json: bool = option(False, help="print the counts as JSON")


def prepare(args: argparse.Namespace) -> dict[str, object]:
    """Compute the features.

    Raises:
        FaultError: as ``refuse_regions`` and ``cache_image_features``.
    """
    from fairseq_vgs.regions.store import refuse_regions

    refuse_regions(args.output, force=args.force)  # before seconds of imports
    from fairseq_vgs.regions.backbone import cache_image_features

    found = cache_image_features(
        args.output,
        args.backbone,
        grid=args.grid,
        image_size=args.image_size,
        batch_size=args.batch_size,
        device=resolve_device(args.device),
        jobs=args.jobs or n_cores(),
        force=args.force,
    )
    return asdict(found)


def table(summary: Mapping[str, Any]) -> Iterator[str]:
    """Yield the counts."""
    images, regions, seconds = summary["images"], summary["regions_per_image"], summary["seconds"]
    n_new = images - summary["images_kept"]
    yield f"{images:,} pictures, {regions} regions each, {summary['dims']} dims"
    yield f"{n_new:,} computed in {seconds:.1f} s ({n_new / max(seconds, 1e-9):.1f} per second)"
    if regions > DEFAULT_MAX_REGIONS:
        yield f"train with task.max_regions={regions}"
