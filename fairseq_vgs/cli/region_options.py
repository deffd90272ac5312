"""Options of the commands that compute regions of pictures."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairseq_vgs.files.faults import Fault, FaultError
from fairseq_vgs.options import positive

if TYPE_CHECKING:
    from fairseq_vgs.prepare.regions.pictures import PictureRegions

GRID_HELP = "regions are the cells of a grid: 3 for 3 x 3 of them, 2x3 for 2 rows of 3"
_GRID = re.compile(r"([1-9][0-9]{0,2})(?:x([1-9][0-9]{0,2}))?")
_DEFAULTS = {"grid": (1, 1), "boxes": None, "device": "cpu", "precision": "float32", "batch_size": 16}


def parse_grid(text: str) -> tuple[int, int]:
    """Return rows and columns of a grid, given as ``3`` or ``2x3``."""
    match = _GRID.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"must be N or ROWSxCOLUMNS, such as 3 or 2x3, got {text!r}")
    return int(match[1]), int(match[2] or match[1])


def add_efficientnet_options(parser: Any) -> None:
    """Add which regions EfficientNet sees, and how it runs; values that are not given are None."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--grid",
        type=parse_grid,
        metavar="N",
        help=f"{GRID_HELP} (default: 1, the whole picture); each cell takes the network as long as a picture",
    )
    where.add_argument(
        "--boxes",
        type=Path,
        metavar="TABLE",
        help="regions are these: a table with image_id x0 y0 x1 y1 in parts of the picture, or a regions.tsv",
    )
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, ... (default: cpu)")
    parser.add_argument(
        "--precision",
        choices=("float32", "float64"),
        help="of the network; with float64 every CPU gives the same bits (default: float32)",
    )
    parser.add_argument("--batch-size", type=positive, metavar="N", help="regions at once (default: 16)")


def add_region_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--regions``, which computes region features while a folder is built."""
    group = parser.add_argument_group("region features of the pictures")
    group.add_argument(
        "--regions",
        choices=("efficientnet",),
        help="compute them in the same run, offline, with the network and the options of "
        "fairseq-vgs prepare regions efficientnet (default: no regions)",
    )
    add_efficientnet_options(group)


def picture_regions(args: argparse.Namespace) -> PictureRegions:
    """Return which regions to compute, with a network that has seen one picture, so that it does work.

    Raises:
        FaultError: the network's packages are missing, or the device is.
    """
    import numpy as np

    from fairseq_vgs.prepare.regions.efficientnet import INPUT_SIZE, EfficientNetFeatures
    from fairseq_vgs.prepare.regions.pictures import PictureRegions

    given = {name: getattr(args, name) for name in _DEFAULTS}
    values: dict[str, Any] = {
        name: _DEFAULTS[name] if value is None else value for name, value in given.items()
    }
    network = EfficientNetFeatures(device=values["device"], precision=values["precision"])
    try:
        network(np.zeros((1, 3, INPUT_SIZE, INPUT_SIZE), dtype=np.uint8))
    except (RuntimeError, AssertionError) as error:  # what torch raises for a device that is not there
        step = "name another --device"
        problem = str(error).splitlines()[0]
        raise FaultError(Fault("--device", f"must run the network, got {problem!r}; {step}")) from error
    return PictureRegions(network, values["grid"], values["boxes"], values["batch_size"])


def optional_picture_regions(args: argparse.Namespace) -> PictureRegions | None:
    """Return which regions to compute while a folder is built; None without ``--regions``.

    Raises:
        FaultError: see ``picture_regions``; or options that say nothing without ``--regions``.
    """
    if getattr(args, "regions", None):
        return picture_regions(args)
    useless = [name for name in _DEFAULTS if getattr(args, name, None) is not None]
    if useless:
        options = ", ".join("--" + name.replace("_", "-") for name in useless)
        raise FaultError(Fault(options, "says how to compute regions; add --regions efficientnet"))
    return None
