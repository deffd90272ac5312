"""``fairseq-vgs prepare image-features``: a frozen image backbone runs once over a folder's pictures."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fairseq_vgs.cli.region_options import GRID_HELP, parse_grid
from fairseq_vgs.options import positive

DESCRIPTION = """\
Runs a backbone of a local Hugging Face directory over all pictures of a data folder and writes regions.npy
and regions.tsv, which training reads in place of the pictures (task.image_input and model.image_encoder are
regions, as by default). Pictures are squeezed to the backbone's square; nothing is downloaded. An interrupted
run goes on when repeated.
"""
EPILOG = """\
examples:
  fairseq-vgs prepare image-features DATA --backbone dinov2-base             one region per picture
  fairseq-vgs prepare image-features DATA --backbone dinov2-base --grid 6    36 regions per picture
"""
DEFAULT_MAX_REGIONS = 36


def add_image_features(corpora: Any) -> None:
    """Add ``prepare image-features``."""
    parser = corpora.add_parser(
        "image-features",
        help="features of a frozen image backbone, for all pictures of a data folder",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("output", type=Path, metavar="DATA", help="data folder whose pictures to read")
    parser.add_argument(
        "--backbone",
        type=Path,
        required=True,
        metavar="DIR",
        help="local Hugging Face directory of the backbone: config.json and weights",
    )
    parser.add_argument(
        "--grid",
        type=_grid,
        default=0,
        metavar="N",
        help=f"{GRID_HELP}, means of the backbone's tokens; 0: one region, its pooled output "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--image-size", type=positive, metavar="PIXELS", help="of the square (default: the backbone's)"
    )
    parser.add_argument(
        "--batch-size",
        type=positive,
        default=32,
        metavar="N",
        help="pictures at once (default: %(default)s)",
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ... (default: %(default)s)")
    parser.add_argument(
        "--jobs", type=positive, default=2, metavar="N", help="threads that decode (default: %(default)s)"
    )
    parser.add_argument("--force", action="store_true", help="replace regions that are there")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")
    parser.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    parser.set_defaults(prepare=_prepare_image_features, table=_table)


def _grid(text: str) -> tuple[int, int] | int:
    return 0 if text == "0" else parse_grid(text)


def _prepare_image_features(args: argparse.Namespace) -> dict[str, object]:
    from fairseq_vgs.prepare.regions.backbone import cache_image_features

    found = cache_image_features(
        args.output,
        args.backbone,
        grid=args.grid,
        image_size=args.image_size,
        batch_size=args.batch_size,
        device=args.device,
        jobs=args.jobs,
        force=args.force,
    )
    return dataclasses.asdict(found)


def _table(summary: Mapping[str, Any]) -> Iterator[str]:
    images, regions, seconds = summary["images"], summary["regions_per_image"], summary["seconds"]
    n_new = images - summary["images_kept"]
    yield f"{images:,} pictures, {regions} regions each, {summary['dims']} dims"
    yield f"{n_new:,} computed in {seconds:.1f} s ({n_new / max(seconds, 1e-9):.1f} per second)"
    if regions > DEFAULT_MAX_REGIONS:
        yield f"train with task.max_regions={regions}"
