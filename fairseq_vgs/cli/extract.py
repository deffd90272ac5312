"""Write the layers and embeddings of a model as files: speech whole and unmasked, all layers in one pass.

An interrupted extraction continues when the command is given again; what has changed since is made anew.
Results do not depend on what stands beside an utterance in a batch, up to rounding.
"""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fairseq_vgs.features.extract import Extraction

NAME = "extract"
HELP = "write layers and embeddings of a model as files"
EPILOG = """\
examples:
  fairseq-vgs extract RUN/checkpoints/checkpoint_best.pt DATA --split test --output outputs/features
  fairseq-vgs extract wav2vec_small.pt LibriSpeech/dev-clean --output features --layers 6 7 8 --device cuda
  fairseq-vgs extract checkpoint_best.pt a.wav b.wav --output features --parts speech --format safetensors

npy: OUTPUT/layer_6/NAME.npy [frames, dims], OUTPUT/speech_embedding/NAME.npy, OUTPUT/image_embedding/ID.npy.
safetensors: OUTPUT/speech/NAME.safetensors (all of an utterance), OUTPUT/images/ID.safetensors.
Frame rate and layers stand in OUTPUT/metadata.json and in the safetensors files. With fastabx:
  Dataset.from_item(ITEM, "OUTPUT/layer_6", 50, extension=".npy",
                    feature_maker=lambda path: torch.from_numpy(numpy.load(path)))
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this subcommand's arguments."""
    parser.epilog = EPILOG
    parser.add_argument(
        "checkpoint", type=Path, metavar="CHECKPOINT", help="of this plugin, or fairseq's own wav2vec2"
    )
    parser.add_argument(
        "sources",
        type=Path,
        nargs="+",
        metavar="SOURCE",
        help="a manifest folder, a folder of audio, or files",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the features")
    parser.add_argument("--split", default="test", help="of a manifest folder (default: %(default)s)")
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=("layers", "speech", "images"),
        help="layers, speech embeddings, image embeddings (default: all that model and source offer)",
    )
    parser.add_argument(
        "--layers",
        type=int,
        nargs="+",
        metavar="N",
        help="only these, 0 being the input of the first (default: all)",
    )
    parser.add_argument(
        "--format", choices=("npy", "safetensors"), default="npy", help="of the files (default: %(default)s)"
    )
    parser.add_argument(
        "--untrained", type=int, metavar="SEED", help="draw the weights anew: the untrained baseline"
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ... (default: %(default)s)")
    parser.add_argument("--bf16", action="store_true", help="run the model in bf16; files stay fp32")
    parser.add_argument(
        "--batch-seconds",
        type=_positive,
        default=60.0,
        metavar="S",
        help="most speech in a batch, padding included (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def run(args: argparse.Namespace) -> int:
    """Extract; print what lies where."""
    import dataclasses

    from fairseq_vgs.checkpoints.load import load_checkpoint
    from fairseq_vgs.features.extract import extract_features
    from fairseq_vgs.features.source import open_source

    source = open_source(args.sources, split=args.split)
    checkpoint = load_checkpoint(args.checkpoint, untrained_seed=args.untrained, allow_stock=True)
    found = extract_features(
        checkpoint,
        source,
        args.output,
        file_format=args.format,
        parts=args.parts,
        layers=args.layers,
        device=args.device,
        bf16=args.bf16,
        batch_seconds=args.batch_seconds,
    )
    if args.json:
        print(json.dumps({**dataclasses.asdict(found), "output": str(args.output)}, indent=2))
        return 0
    print(f"{found.n_utterances} utterances and {found.n_images} images in {found.seconds:.1f} s")
    if found.n_kept:
        print(f"{found.n_kept} of them were there already")
    if found.n_changed:
        print(f"{found.n_changed} of them were made anew: their files have changed, or were not noted")
    print(_describe(args.output, found, file_format=args.format))
    return 0


def _describe(folder: Path, found: Extraction, *, file_format: str) -> str:
    """Say in words what lies in the folder, and how to look into one of the files."""
    from fairseq_vgs.features.store import METADATA_NAME

    files = sorted(folder.rglob(f"*.{file_format}"))
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    parts = ", ".join(dict.fromkeys(f"{path.relative_to(folder).parts[0]}/" for path in files))
    layers = f"{len(found.layers)} layers at {found.frame_rate:g} frames per second; " if found.layers else ""
    text = (
        f"{folder} holds {len(files)} {file_format} files, {megabytes:.1f} MB, in {parts}: {layers}"
        f"{METADATA_NAME} says how they were made"
    )
    if not files:
        return text
    file = min(files, key=lambda path: path.relative_to(folder).parts[0].startswith("image"))
    name = json.dumps(str(file), ensure_ascii=False)  # quoted as Python quotes, but not as a shell does
    look = {
        "npy": f"import numpy; print(numpy.load({name}).shape)",
        "safetensors": "from safetensors.numpy import load_file; "
        f"print({{part: array.shape for part, array in load_file({name}).items()}})",
    }[file_format]
    return f"{text}\nlook into one: {shlex.join(['python', '-c', look])}"


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return value
