"""Build a data folder from a corpus: audio lists, pair tables, pictures, and a summary of what was left out.

The folder appears only when it is complete; --force replaces an older one that this command made.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairseq_vgs.cli.prepare_items import add_items
from fairseq_vgs.cli.prepare_text import add_text

if TYPE_CHECKING:
    from fairseq_vgs.prepare.parallel import Progress

NAME = "prepare"
HELP = "build a data folder from a corpus"
EPILOG = """\
examples:
  fairseq-vgs prepare scenes DATA                          scenes from the embedded set
  fairseq-vgs prepare scenes DATA --objects 300 --max-object-seconds 0
  fairseq-vgs prepare tuxpaint STAMPS DATA --language fr   from the unpacked Debian package
"""
EMBEDDED = Path("manifests", "embedded")
MAX_DEFAULT_JOBS = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one nested subcommand per corpus."""
    parser.epilog = EPILOG
    corpora = parser.add_subparsers(title="corpora", metavar="CORPUS", required=True)
    _add_tuxpaint(corpora)
    _add_scenes(corpora)
    add_items(corpora)
    add_text(corpora)


def run(args: argparse.Namespace) -> int:
    """Prepare the chosen corpus and print its splits, or all of the summary as JSON."""
    summary = args.prepare(args)
    if args.json:
        print(json.dumps(summary, ensure_ascii=False, indent=2))
    else:
        print("\n".join(getattr(args, "table", _table)(summary)))
        print(f"written to {args.output}", file=sys.stderr)
    return 0


def _add_tuxpaint(corpora: Any) -> None:
    parser = corpora.add_parser(
        "tuxpaint",
        help="pictures with their names spoken in one of 14 languages (Debian: tuxpaint-stamps-default)",
        description="Pictures of single objects with their recorded names, split so that no recording, "
        "caption or picture is in two splits. Get the corpus with: "
        "apt-get download tuxpaint-stamps-default && dpkg-deb -x tuxpaint-stamps-default_*.deb STAMPS",
    )
    parser.add_argument("stamps_dir", type=Path, metavar="STAMPS_DIR", help="the unpacked package")
    _add_common(parser)
    parser.add_argument("--language", required=True, help="language of the speech: ru, fr, es, pt_BR, ...")
    parser.add_argument(
        "--max-seconds",
        type=float,
        default=2.5,
        help="leave out longer recordings; 0: none (default: %(default)s)",
    )
    parser.add_argument("--include-symbols", action="store_true", help="also letters, digits, coins, signs")
    parser.add_argument(
        "--valid-share", type=float, default=0.1, help="share of pictures for valid (default: %(default)s)"
    )
    parser.add_argument(
        "--test-share", type=float, default=0.1, help="share of pictures for test (default: %(default)s)"
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
        description="Scenes of several pictures on white, captioned by the objects' recorded names in "
        "varying order and speed. No set of objects occurs twice; test scenes are unseen combinations. "
        "The same seed gives the same folder.",
    )
    _add_common(parser)
    parser.add_argument(
        "--source", type=Path, help="data folder of single objects (default: the embedded set)"
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
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="data folder to make")
    parser.add_argument("--seed", type=int, default=1, help="seed of all choices (default: %(default)s)")
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
        type=_positive,
        default=min(os.cpu_count() or 1, MAX_DEFAULT_JOBS),
        metavar="N",
        help="threads; the result does not depend on it (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print the whole summary as JSON")
    parser.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def _prepare_tuxpaint(args: argparse.Namespace) -> dict[str, object]:
    from fairseq_vgs.prepare.tuxpaint import TuxpaintConfig, prepare_tuxpaint

    config = TuxpaintConfig(
        language=args.language,
        max_seconds=args.max_seconds,
        include_symbols=args.include_symbols,
        valid_share=args.valid_share,
        test_share=args.test_share,
        seed=args.seed,
        picture_size=args.picture_size,
    )
    with _progress_bar("pictures") as progress:
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
    from fairseq_vgs.prepare.scenes import ScenesConfig, prepare_scenes

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
    with _progress_bar("scenes") as progress:
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


@contextmanager
def _progress_bar(unit: str) -> Iterator[Progress]:
    from tqdm import tqdm

    # disable=None turns the bar off where stderr is no terminal.
    with tqdm(desc=f"preparing {unit}", unit="", file=sys.stderr, disable=None, leave=False) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield progress


def _table(summary: Mapping[str, Any]) -> Iterator[str]:
    splits: Mapping[str, Mapping[str, Any]] = summary["splits"]
    columns = [name for name, value in next(iter(splits.values())).items() if not isinstance(value, Mapping)]
    yield "".join([f"{'split':<8}", *(f"{name:>10}" for name in columns)])
    for split, counts in splits.items():
        yield "".join([f"{split:<8}", *(f"{counts[name]:>10,}" for name in columns)])
    for reason, excluded in summary["excluded"].items():
        yield f"left out: {excluded['count']:,} {reason}"
