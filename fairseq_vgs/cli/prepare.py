"""Build a data folder from a corpus: audio lists, pair tables, pictures, and a summary of what was left out.

The folder appears only when it is complete; --force replaces an older one that this command made.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from fairseq_vgs.cli.build_options import add_output_options, progress_bar, summary_table
from fairseq_vgs.cli.prepare_corpora import add_corpora
from fairseq_vgs.cli.prepare_image_features import add_image_features
from fairseq_vgs.cli.prepare_items import add_items
from fairseq_vgs.cli.prepare_own import add_lextest, add_librispeech, add_pairs
from fairseq_vgs.cli.prepare_regions import add_regions
from fairseq_vgs.cli.prepare_text import add_text

NAME = "prepare"
HELP = "build a data folder from a corpus"
EPILOG = """\
examples:
  fairseq-vgs prepare scenes DATA                          scenes from the embedded set
  fairseq-vgs prepare scenes DATA --objects 300 --max-object-seconds 0
  fairseq-vgs prepare tuxpaint STAMPS DATA --language fr   from the unpacked Debian package
  fairseq-vgs prepare librispeech LibriSpeech DATA --subset dev-clean=valid --abx-items dev-clean.item
  fairseq-vgs prepare pairs MINE.csv DATA --audio-root RECORDINGS --image-root PHOTOS --pack zip
"""
TUXPAINT_EXAMPLES = """\
examples:
  fairseq-vgs prepare tuxpaint STAMPS DATA --language fr
  fairseq-vgs prepare tuxpaint STAMPS DATA --language ru --max-seconds 0 --include-symbols
"""
SCENES_EXAMPLES = """\
examples:
  fairseq-vgs prepare scenes DATA
  fairseq-vgs prepare scenes DATA --source OBJECTS --objects 300 --max-object-seconds 0
"""
EMBEDDED = Path("manifests", "embedded")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one nested subcommand per corpus."""
    parser.epilog = EPILOG
    corpora = parser.add_subparsers(title="corpora", metavar="CORPUS", required=True)
    _add_tuxpaint(corpora)
    _add_scenes(corpora)
    add_corpora(corpora)
    add_librispeech(corpora)
    add_lextest(corpora)
    add_pairs(corpora)
    add_image_features(corpora)
    add_regions(corpora)
    add_items(corpora)
    add_text(corpora)


def run(args: argparse.Namespace) -> int:
    """Prepare the chosen corpus and print its splits, or all of the summary as JSON."""
    summary = args.prepare(args)
    if args.json:
        print(json.dumps(summary, ensure_ascii=False, indent=2))
    else:
        print("\n".join(getattr(args, "table", summary_table)(summary)))
        print(f"written to {args.output}", file=sys.stderr)
    return 0


def _add_tuxpaint(corpora: Any) -> None:
    parser = corpora.add_parser(
        "tuxpaint",
        help="pictures with their names spoken in one of 14 languages (Debian: tuxpaint-stamps-default)",
        description="Pictures of single objects with their recorded names, split so that no recording,\n"
        "caption or picture is in two splits. Get the corpus with:\n"
        "  apt-get download tuxpaint-stamps-default && dpkg-deb -x tuxpaint-stamps-default_*.deb STAMPS",
        epilog=TUXPAINT_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("stamps_dir", type=Path, metavar="STAMPS", help="the unpacked package")
    _add_common(parser)
    parser.add_argument(
        "--language", required=True, metavar="CODE", help="language of the speech: ru, fr, es, pt_BR, ..."
    )
    parser.add_argument(
        "--max-seconds",
        type=float,
        default=2.5,
        metavar="SECONDS",
        help="leave out longer recordings; 0: none (default: %(default)s)",
    )
    parser.add_argument("--include-symbols", action="store_true", help="also letters, digits, coins, signs")
    parser.add_argument(
        "--valid-share",
        type=float,
        default=0.1,
        metavar="SHARE",
        help="share of pictures for valid (default: %(default)s)",
    )
    parser.add_argument(
        "--test-share",
        type=float,
        default=0.1,
        metavar="SHARE",
        help="share of pictures for test (default: %(default)s)",
    )
    parser.add_argument(
        "--picture-size",
        type=int,
        default=224,
        metavar="PIXELS",
        help="longer side of the pictures at most (default: %(default)s)",
    )
    parser.set_defaults(prepare=_prepare_tuxpaint)


def _add_scenes(corpora: Any) -> None:
    parser = corpora.add_parser(
        "scenes",
        help="scenes of several objects with spoken captions, composed from single named objects",
        description="Scenes of several pictures on white, captioned by the objects' recorded names in\n"
        "varying order and speed. No set of objects occurs twice; test scenes are unseen combinations.\n"
        "The same seed gives the same folder.",
        epilog=SCENES_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_common(parser)
    parser.add_argument(
        "--source",
        type=Path,
        metavar="FOLDER",
        help="data folder of single objects (default: the embedded set)",
    )
    counts = (
        ("--objects", 60, "different objects"),
        ("--train-scenes", 1500, "scenes in train"),
        ("--valid-scenes", 100, "scenes in valid"),
        ("--test-scenes", 200, "scenes in test"),
        ("--captions", 2, "spoken captions of each scene"),
    )
    for option, default, meaning in counts:
        parser.add_argument(
            option, type=int, default=default, metavar="N", help=f"{meaning} (default: %(default)s)"
        )
    parser.add_argument(
        "--pictures-per-scene",
        type=int,
        nargs=2,
        default=(2, 4),
        metavar=("FEWEST", "MOST"),
        help="objects in a scene (default: 2 4)",
    )
    parser.add_argument(
        "--max-object-seconds",
        type=float,
        default=1.5,
        metavar="SECONDS",
        help="pass over objects with a longer recorded name; 0: none (default: %(default)s)",
    )
    parser.add_argument(
        "--canvas-size", type=int, default=224, metavar="PIXELS", help="scene size (default: %(default)s)"
    )
    parser.set_defaults(prepare=_prepare_scenes)


def _add_common(parser: argparse.ArgumentParser) -> None:
    add_output_options(parser)
    parser.add_argument(
        "--seed", type=int, default=1, metavar="N", help="seed of all choices (default: %(default)s)"
    )


def _prepare_tuxpaint(args: argparse.Namespace) -> dict[str, object]:
    from fairseq_vgs.prepare.corpora.tuxpaint import TuxpaintConfig, prepare_tuxpaint

    config = TuxpaintConfig(
        language=args.language,
        max_seconds=args.max_seconds,
        include_symbols=args.include_symbols,
        valid_share=args.valid_share,
        test_share=args.test_share,
        seed=args.seed,
        picture_size=args.picture_size,
    )
    with progress_bar("pictures") as progress:
        return prepare_tuxpaint(
            args.stamps_dir,
            args.output,
            config=config,
            relative_root=args.relative_root,
            force=args.force,
            jobs=args.jobs,
            progress=progress,
        )


def _prepare_scenes(args: argparse.Namespace) -> dict[str, object]:
    from fairseq_vgs.prepare.scenes.compose import ScenesConfig, prepare_scenes

    config = ScenesConfig(
        objects=args.objects,
        max_object_seconds=args.max_object_seconds,
        train_scenes=args.train_scenes,
        valid_scenes=args.valid_scenes,
        test_scenes=args.test_scenes,
        captions=args.captions,
        pictures_per_scene=tuple(args.pictures_per_scene),
        canvas_size=args.canvas_size,
        seed=args.seed,
    )
    with progress_bar("scenes") as progress:
        return prepare_scenes(
            args.output,
            args.source or _embedded_set(),
            config=config,
            relative_root=args.relative_root,
            force=args.force,
            jobs=args.jobs,
            progress=progress,
        )


def _embedded_set() -> Path:
    """Return the embedded set of this package's checkout, or else of the working directory."""
    beside_package = Path(__file__).resolve().parents[2] / EMBEDDED
    return beside_package if beside_package.is_dir() else EMBEDDED
