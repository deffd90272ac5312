"""Convert a checkpoint of other code into one of this plugin.

The result can be evaluated, and training can start from it: checkpoint.finetune_from_model=OUTPUT.
"""

from __future__ import annotations

import argparse
from pathlib import Path

NAME = "import"
HELP = "convert a checkpoint of other code"
EPILOG = """\
examples:
  fairseq-vgs import fast-vgs best_bundle.pth fast_vgs_plus.pt
"""
FAST_VGS_DESCRIPTION = """\
The dual encoder of FaST-VGS, FaST-VGS+ or VGS+, as the authors' trainer saves it (best_bundle.pth). Every
weight must be accounted for; no code in the file is run.
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


def run(args: argparse.Namespace) -> int:
    """Convert; print the path of what was written."""
    code: int = args.run_source(args)
    return code


def add_fast_vgs_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``import fast-vgs``."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="best_bundle.pth or another bundle")
    _add_output_arguments(parser)


def run_fast_vgs(args: argparse.Namespace) -> int:
    """Convert a bundle of the authors' trainer."""
    from fairseq_vgs.interop.fast_vgs import import_fast_vgs

    import_fast_vgs(args.bundle, args.output, force=args.force)
    print(args.output)
    return 0


def _add_output_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "output", type=Path, metavar="OUTPUT", help="the checkpoint to write, such as NAME.pt"
    )
    parser.add_argument("--force", action="store_true", help="replace an existing OUTPUT")
