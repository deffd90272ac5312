"""``fairseq-vgs prepare spokencoco``, ``flickr8k``, ``places``: spoken captions as they are distributed."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fairseq_vgs.cli.build_options import add_build_options, build_options, progress_bar
from fairseq_vgs.cli.region_options import add_region_options

SPOKENCOCO = """\
SpokenCOCO as it is unpacked (SpokenCOCO_train.json, SpokenCOCO_val.json, wavs), with COCO's pictures of
2014. Splits: karpathy (113k pictures for train, 5k valid, 5k test); paper (Khorrami et al. 2023: the files'
118k for train and 5k for test, no valid); published (the files: train, valid).
"""
SPOKENCOCO_EXAMPLES = """\
examples:
  fairseq-vgs prepare spokencoco SpokenCOCO DATA --images COCO
  fairseq-vgs prepare spokencoco SpokenCOCO DATA --images COCO --split paper --pack tar
  fairseq-vgs prepare spokencoco SpokenCOCO DATA --images COCO --regions efficientnet --grid 3
  fairseq-vgs prepare spokencoco SpokenCOCO DATA --without-pictures --karpathy dataset_coco.json
"""
FLICKR8K = """\
Flickr8k Audio as it is unpacked: a folder with flickr_audio (wavs, wav2capt.txt, wav2spk.txt), Flickr8k_text
and Flicker8k_Dataset. Splits are the published lists, which are verified; without Flickr8k_text, those of
manifests/splits are taken and the captions have no texts.
"""
FLICKR8K_EXAMPLES = """\
examples:
  fairseq-vgs prepare flickr8k FLICKR8K DATA
  fairseq-vgs prepare flickr8k FLICKR8K DATA --images PICTURES --skip-bad
  fairseq-vgs prepare flickr8k FLICKR8K DATA --regions efficientnet
"""
PLACES = """\
Places Audio Captions 400k, splits of 2020: PlacesAudio_400k_distro/wavs, and placesaudio_2020_splits with
train_2020.json, dev_seen_2020.json, ... The splits become train, valid_seen, valid_unseen, test_seen and
test_unseen; their texts are what a recogniser understood. Some recordings of the corpus are empty: --skip-bad
leaves them out.
"""
PLACES_EXAMPLES = """\
examples:
  fairseq-vgs prepare places PlacesAudio_400k_distro DATA --images PLACES205 --skip-bad
  fairseq-vgs prepare places PlacesAudio_400k_distro DATA --without-pictures --metadata SPLITS
"""
SPLIT_LISTS = Path("manifests", "splits")


def add_corpora(corpora: Any) -> None:
    """Add ``prepare spokencoco``, ``prepare flickr8k`` and ``prepare places``."""
    _add_spokencoco(corpora)
    _add_flickr8k(corpora)
    _add_places(corpora)


def _add_spokencoco(corpora: Any) -> None:
    parser = _add(
        corpora, "spokencoco", "SpokenCOCO: five spoken captions a picture", SPOKENCOCO, SPOKENCOCO_EXAMPLES
    )
    parser.add_argument("spokencoco_dir", type=Path, metavar="SPOKENCOCO", help="folder of the JSON files")
    add_build_options(parser)
    _add_images(parser, "COCO's train2014 and val2014")
    parser.add_argument(
        "--split",
        choices=("karpathy", "paper", "published"),
        default="karpathy",
        help="how pictures are divided (default: %(default)s)",
    )
    parser.add_argument(
        "--karpathy",
        type=Path,
        metavar="PATH",
        help="Karpathy's dataset_coco.json, or a folder of lists (default: those of manifests/splits)",
    )
    parser.set_defaults(prepare=_prepare_spokencoco)


def _add_flickr8k(corpora: Any) -> None:
    parser = _add(
        corpora, "flickr8k", "Flickr8k Audio: five spoken captions a picture", FLICKR8K, FLICKR8K_EXAMPLES
    )
    parser.add_argument("flickr8k_dir", type=Path, metavar="FLICKR8K", help="folder of flickr_audio")
    add_build_options(parser)
    _add_images(parser, "the pictures (default: Flicker8k_Dataset in FLICKR8K)", required=False)
    parser.add_argument(
        "--lists",
        type=Path,
        metavar="FOLDER",
        help="the published lists of pictures, if FLICKR8K has none (default: those of manifests/splits)",
    )
    parser.add_argument(
        "--faulty",
        type=Path,
        metavar="FILE",
        help="names of recordings to leave out, one a line; they are counted and named in summary.json",
    )
    parser.set_defaults(prepare=_prepare_flickr8k)


def _add_places(corpora: Any) -> None:
    parser = _add(
        corpora,
        "places",
        "Places Audio Captions 400k: described pictures of places",
        PLACES,
        PLACES_EXAMPLES,
    )
    parser.add_argument("places_dir", type=Path, metavar="PLACES_AUDIO", help="folder of wavs")
    add_build_options(parser)
    _add_images(parser, "Places205's pictures, which the JSON files' paths start from")
    parser.add_argument(
        "--metadata",
        type=Path,
        metavar="FOLDER",
        help="folder of the JSON files (default: metadata or placesaudio_2020_splits, in or beside it)",
    )
    parser.set_defaults(prepare=_prepare_places)


def _add(corpora: Any, name: str, summary: str, description: str, examples: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = corpora.add_parser(
        name,
        help=summary,
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


def _add_images(parser: argparse.ArgumentParser, what: str, *, required: bool = True) -> None:
    pictures = parser.add_mutually_exclusive_group(required=required)
    pictures.add_argument("--images", type=Path, metavar="FOLDER", help=f"folder of {what}")
    pictures.add_argument(
        "--without-pictures",
        action="store_true",
        help="make no table of pictures; fairseq-vgs prepare regions adds features under the same image ids",
    )
    add_region_options(parser)


def _prepare_spokencoco(args: argparse.Namespace) -> dict[str, object]:
    from fairseq_vgs.prepare.corpora.spokencoco import SpokencocoConfig, prepare_spokencoco

    config = SpokencocoConfig(
        split=args.split, images=args.images, karpathy=args.karpathy or _split_lists("spokencoco")
    )
    with progress_bar("files") as progress:
        return prepare_spokencoco(
            args.spokencoco_dir, args.output, config=config, options=build_options(args), progress=progress
        )


def _prepare_flickr8k(args: argparse.Namespace) -> dict[str, object]:
    from fairseq_vgs.prepare.corpora.flickr8k import Flickr8kConfig, prepare_flickr8k

    config = Flickr8kConfig(
        images=args.images,
        pictures=not args.without_pictures,
        lists=args.lists or _split_lists("flickr8k"),
        faulty=args.faulty,
    )
    with progress_bar("files") as progress:
        return prepare_flickr8k(
            args.flickr8k_dir, args.output, config=config, options=build_options(args), progress=progress
        )


def _prepare_places(args: argparse.Namespace) -> dict[str, object]:
    from fairseq_vgs.prepare.corpora.places import PlacesConfig, prepare_places

    config = PlacesConfig(images=args.images, metadata=args.metadata)
    with progress_bar("files") as progress:
        return prepare_places(
            args.places_dir, args.output, config=config, options=build_options(args), progress=progress
        )


def _split_lists(corpus: str) -> Path:
    """Return the published lists of this package's checkout, or else of the working directory."""
    beside_package = Path(__file__).resolve().parents[2] / SPLIT_LISTS / corpus
    return beside_package if beside_package.is_dir() else SPLIT_LISTS / corpus
