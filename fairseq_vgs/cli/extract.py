"""Write the layers and embeddings of a model as files: speech whole and unmasked, all layers in one pass.

Repeat the command to continue an interrupted extraction; files of changed inputs are recomputed. Results do
not depend on the other utterances of a batch, up to rounding.
"""

from __future__ import annotations

import argparse
import json
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fairseq_vgs.checkpoints.places import find_checkpoint, find_model
from fairseq_vgs.device import device_option, resolve_device
from fairseq_vgs.options import option, positive_number, read_options

if TYPE_CHECKING:
    from fairseq_vgs.features.extract import Extraction

EPILOG = """\
examples:
  fairseq-vgs extract RUN DATA --split test --output outputs/features
  fairseq-vgs extract wav2vec_small.pt LibriSpeech/dev-clean --output features --layers 6 7 8 --device cuda
  fairseq-vgs extract checkpoint_best.pt a.wav b.wav --output features --parts speech --format safetensors

npy: OUTPUT/layer_6/NAME.npy [frames, dims], OUTPUT/speech_embedding/NAME.npy, OUTPUT/image_embedding/ID.npy.
safetensors: OUTPUT/speech/NAME.safetensors (all of an utterance), OUTPUT/images/ID.safetensors.
Frame rate and layers are in OUTPUT/metadata.json and in the safetensors files. With fastabx, which refuses
items at the very end of a recording unless --complete-last-frame was given:
  Dataset.from_item(ITEM, "OUTPUT/layer_6", 50, extension=".npy",
                    feature_maker=lambda path: torch.from_numpy(numpy.load(path)))
"""


@dataclass(frozen=True)
class Options:
    """Options of ``extract``."""

    checkpoint: Path = option(
        help="a run's folder, a checkpoint, a folder of fairseq-vgs export, quickstart (the model that comes "
        "with the package), or fairseq's own wav2vec2",
        positional=True,
        metavar="RUN",
        parse=find_model,
    )
    sources: tuple[Path, ...] = option(
        help="data folder, folder of audio, or files", positional=True, metavar="SOURCE"
    )
    output: Path = option(help="folder for the features", metavar="DIR")
    split: str = option("test", help="split of a data folder")
    parts: tuple[Literal["layers", "speech", "images"], ...] | None = option(
        None, help="layers, speech embeddings, image embeddings (default: all that model and source have)"
    )
    layers: tuple[int, ...] | None = option(
        None, help="only these, 0 being the input of the first (default: all)", metavar="N"
    )
    format: Literal["npy", "safetensors"] = option("npy", help="file format")
    untrained: int | None = option(None, help="use random weights: the untrained baseline", metavar="SEED")
    device: str = device_option()
    bf16: bool = option(False, help="run the model in bf16; files are fp32")
    batch_seconds: float = option(
        60.0, help="maximum speech in a batch, padding included", metavar="S", parse=positive_number
    )
    complete_last_frame: bool = option(
        False,
        help="add up to 15 ms of silence at the end of each utterance, so that its layers have every frame "
        "whose middle lies in it, as fastabx expects; embeddings stay as they are",
    )
    json: bool = option(False, help="print the summary as JSON")


def run(args: argparse.Namespace) -> int:
    """Extract; print a summary of the files."""
    from fairseq_vgs.files.output import try_output
    from fairseq_vgs.files.torch_files import require_file

    options = read_options(args, Options)
    try_output(options.output, option="--output")
    path = find_checkpoint(options.checkpoint)
    require_file(path)  # before seconds of imports
    from fairseq_vgs.checkpoints.open import open_checkpoint
    from fairseq_vgs.features.extract import extract_features
    from fairseq_vgs.features.recordings import open_source

    device = resolve_device(options.device)
    source = open_source(options.sources, split=options.split)
    checkpoint = open_checkpoint(path, untrained_seed=options.untrained, allow_stock=True)
    found = extract_features(
        checkpoint,
        source,
        options.output,
        file_format=options.format,
        parts=options.parts,
        layers=options.layers,
        device=device,
        bf16=options.bf16,
        batch_seconds=options.batch_seconds,
        complete_last_frame=options.complete_last_frame,
    )
    if options.json:
        print(json.dumps({**asdict(found), "output": str(options.output)}, indent=2))
        return 0
    print(f"{found.n_utterances} utterances and {found.n_images} images in {found.seconds:.1f} s")
    if found.n_kept:
        print(f"{found.n_kept} of them existed already")
    if found.n_changed:
        print(f"{found.n_changed} of them were recomputed, since their files changed or had no record")
    print(_describe(options.output, found, file_format=options.format))
    return 0


def _describe(folder: Path, found: Extraction, *, file_format: str) -> str:
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
    name = json.dumps(str(file), ensure_ascii=False)  # quoted for Python, not for a shell
    look = {
        "npy": f"import numpy; print(numpy.load({name}).shape)",
        "safetensors": "from safetensors.numpy import load_file; "
        f"print({{part: array.shape for part, array in load_file({name}).items()}})",
    }[file_format]
    return f"{text}\nopen one: {shlex.join(['python', '-c', look])}"
