"""Which regions of pictures EfficientNet sees, and how it runs: options of the commands that compute them."""

from __future__ import annotations

import argparse
import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from fairseq_vgs.device import device_option, resolve_device
from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.options import option, positive

if TYPE_CHECKING:
    from fairseq_vgs.regions.pictures import PictureRegions

GRID_HELP = "regions are the cells of a grid: 3 for 3 x 3 of them, 2x3 for 2 rows of 3"
GRID = re.compile(r"([1-9][0-9]{0,2})(?:x([1-9][0-9]{0,2}))?")


class Grid(NamedTuple):
    """Cells that a picture is divided into."""

    rows: int = 1
    columns: int = 1


def parse_grid(text: str) -> Grid:
    """Parse rows and columns of a grid, given as ``3`` or ``2x3``."""
    match = GRID.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"must be N or ROWSxCOLUMNS, such as 3 or 2x3, got {text!r}")
    return Grid(int(match[1]), int(match[2] or match[1]))


@dataclass(frozen=True)
class EfficientNetOptions:
    """Regions, and the network that computes their features."""

    grid: Grid = option(
        Grid(),
        help=f"{GRID_HELP} (default: 1, the whole picture); each cell takes the network as long as a picture",
        metavar="N",
        parse=parse_grid,
        exclusive="where",
    )
    boxes: Path | None = option(
        None,
        help="regions are these: a table with image_id x0 y0 x1 y1 as fractions of the picture's "
        "width and height, or a regions.tsv",
        metavar="TABLE",
        exclusive="where",
    )
    device: str = device_option()
    precision: Literal["float32", "float64"] = option(
        "float32", help="precision of the network; with float64 every CPU gives the same bits"
    )
    batch_size: int = option(16, help="regions at once", metavar="N", parse=positive)

    def open(self) -> PictureRegions:
        """Load the network and show it one picture; raise ``FaultError`` if it or the device is missing."""
        import numpy as np

        from fairseq_vgs.regions.efficientnet import INPUT_SIZE, EfficientNetFeatures
        from fairseq_vgs.regions.pictures import PictureRegions

        network = EfficientNetFeatures(device=resolve_device(self.device), precision=self.precision)
        network(np.zeros((1, 3, INPUT_SIZE, INPUT_SIZE), dtype=np.uint8))
        return PictureRegions(network, self.grid, self.boxes, self.batch_size)


@dataclass(frozen=True)
class RegionOptions(EfficientNetOptions):
    """The same while a data folder is built, where regions are not computed unless asked for."""

    regions: Literal["efficientnet"] | None = option(
        None,
        help="compute them in the same run, offline, with the network and the options of "
        "fairseq-vgs prepare regions efficientnet (default: no regions)",
    )

    def open_if_wanted(self) -> PictureRegions | None:
        """Return which regions to compute; None without ``--regions``, which other options need."""
        if self.regions:
            return self.open()
        changed = [field for field in dataclasses.fields(self) if getattr(self, field.name) != field.default]
        if changed:
            names = ", ".join("--" + field.name.replace("_", "-") for field in changed)
            message = "says how to compute regions; add --regions efficientnet"
            raise FaultError.at(names, message, "setting.unused")
        return None
