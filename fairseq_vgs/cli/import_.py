"""Convert a checkpoint of other code into one of this plugin.

The result can be evaluated, and training can start from it: checkpoint.finetune_from_model=OUTPUT.
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fairseq_vgs.checkpoints.imports.model_group import ImportedModel

NAME = "import"
HELP = "convert a checkpoint of other code"
EPILOG = """\
examples:
  fairseq-vgs import fast-vgs best_bundle.pth fast_vgs_plus.pt
  fairseq-vgs import wav2vec2 wav2vec_small.pt start/w2v2_base.pt
  fairseq-vgs import wav2vec2 HUGGING_FACE_FOLDER start/w2v2.pt --set image_dim=1280 --set vgs_layer=6
"""
FAST_VGS_DESCRIPTION = """\
The dual encoder of FaST-VGS, FaST-VGS+ or VGS+, as the authors' trainer saves it (best_bundle.pth). Every
weight must be accounted for; no code in the file is run.
"""

WAV2VEC2_DESCRIPTION = """\
The speech branch from a public wav2vec 2.0: a fairseq checkpoint (wav2vec_small.pt) or a Hugging Face folder
(config.json and model.safetensors or pytorch_model.bin). The CLS vector and the visually grounded branch are
drawn anew. Every weight must be accounted for; no code in the file is run. A model group for training is
written to model/NAME.yaml beside OUTPUT, and the command that uses it is printed.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this subcommand's arguments."""
    parser.epilog = EPILOG
    sources = parser.add_subparsers(title="sources", metavar="SOURCE", dest="source", required=True)
    fast_vgs = sources.add_parser(
        "fast-vgs",
        help="FaST-VGS, FaST-VGS+ and VGS+ (best_bundle.pth)",
        description=FAST_VGS_DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_fast_vgs_arguments(fast_vgs)
    fast_vgs.set_defaults(run_source=run_fast_vgs)
    wav2vec2 = sources.add_parser(
        "wav2vec2",
        help="wav2vec 2.0 of fairseq or Hugging Face, as a start for training",
        description=WAV2VEC2_DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_wav2vec2_arguments(wav2vec2)
    wav2vec2.set_defaults(run_source=run_wav2vec2)


def run(args: argparse.Namespace) -> int:
    """Convert; print the path of what was written."""
    from fairseq_vgs.compat.availability import require_fairseq

    require_fairseq()
    code: int = args.run_source(args)
    return code


def add_fast_vgs_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``import fast-vgs``."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="best_bundle.pth or another bundle")
    _add_output_arguments(parser)
    parser.add_argument(
        "--args",
        type=Path,
        dest="settings_file",
        metavar="FILE",
        help="args.pkl of the run (default: the one beside BUNDLE; else the settings of the authors' VGS+)",
    )
    _add_settings_argument(parser, defaults="the bundle's")


def run_fast_vgs(args: argparse.Namespace) -> int:
    """Convert a bundle of the authors' trainer; print what was written and how to train from it."""
    from fairseq_vgs.checkpoints.imports.fast_vgs import import_fast_vgs

    imported = import_fast_vgs(
        args.bundle,
        args.output,
        settings_file=args.settings_file,
        overrides=args.settings,
        force=args.force,
    )
    _print_imported(imported)
    return 0


def add_wav2vec2_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``import wav2vec2``."""
    parser.add_argument("source", type=Path, metavar="FILE_OR_FOLDER", help="what to start from")
    _add_output_arguments(parser)
    _add_settings_argument(
        parser,
        defaults="the file's, and those of examples/vgs/model/base.yaml, image_dim 2048",
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="of the weights that are drawn anew (default: %(default)s)"
    )


def run_wav2vec2(args: argparse.Namespace) -> int:
    """Convert a wav2vec 2.0; print what was written and how to train from it."""
    from fairseq_vgs.checkpoints.imports.wav2vec2 import import_wav2vec2

    imported = import_wav2vec2(
        args.source, args.output, settings=args.settings, seed=args.seed, force=args.force
    )
    _print_imported(imported)
    return 0


def _add_output_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "output", type=Path, metavar="OUTPUT", help="the checkpoint to write, such as NAME.pt"
    )
    parser.add_argument("--force", action="store_true", help="replace an existing OUTPUT")


def _add_settings_argument(parser: argparse.ArgumentParser, *, defaults: str) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="settings",
        metavar="KEY=VALUE",
        help="a setting of the model, such as vgs_layer=6, image_dim=1280 or speech_head=attention; repeat "
        f"for more (default: {defaults})",
    )


def _print_imported(imported: ImportedModel) -> None:
    print(imported.checkpoint)
    print(imported.group)
    train = ["fairseq-hydra-train", "--config-dir", "examples/vgs", "--config-name", "vgs_plus"]
    print(shlex.join([*train, *imported.overrides]))
