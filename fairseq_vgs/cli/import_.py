"""Convert a checkpoint of other code for this plugin.

The result can be evaluated, and training can start from it: checkpoint.finetune_from_model=OUTPUT.
"""

from __future__ import annotations

import argparse
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairseq_vgs.checkpoints.places import find_model
from fairseq_vgs.cli.parser import add_command
from fairseq_vgs.files.hydra import shell_override
from fairseq_vgs.options import option, read_options

if TYPE_CHECKING:
    from fairseq_vgs.checkpoints.save import ImportedModel

EPILOG = """\
examples:
  fairseq-vgs import fast-vgs best_bundle.pth fast_vgs_plus.pt
  fairseq-vgs import wav2vec2 wav2vec_small.pt start/w2v2_base.pt
  fairseq-vgs import wav2vec2 HUGGING_FACE_FOLDER start/w2v2.pt --data DATA --set vgs_layer=6
  fairseq-vgs import wav2vec2 wav2vec2-base start/w2v2_dinov2.pt --data DATA --image-backbone dinov2-base
  fairseq-vgs import hub EXPORTED_FOLDER start/vgs_plus.pt
"""
FAST_VGS = "FaST-VGS, FaST-VGS+ and VGS+ (best_bundle.pth)"
WAV2VEC2 = "wav2vec 2.0 of fairseq or Hugging Face, to start training from"
HUB = "a folder that fairseq-vgs export wrote, perhaps fine-tuned with Hugging Face since"
HUB_DESCRIPTION = """\
Turn an exported folder, or what save_pretrained made of its model, into a checkpoint to train on. No code in
the folder is run. Weights of the self-supervised loss, which save_pretrained leaves out, are then drawn.
"""
FAST_VGS_DESCRIPTION = """\
Convert the dual encoder of FaST-VGS, FaST-VGS+ or VGS+, as the authors' trainer saves it (best_bundle.pth).
Every weight must be accounted for; no code in the file is run.
"""
WAV2VEC2_DESCRIPTION = """\
Take the speech branch from a public wav2vec 2.0: a fairseq checkpoint (wav2vec_small.pt) or a Hugging Face
folder (config.json and model.safetensors or pytorch_model.bin). The CLS vector and the visually grounded
branch are initialised at random. Every weight must be accounted for; no code in the file is run. A model
group for training is written to model/NAME.yaml next to OUTPUT, and the command that uses it is printed.
"""


def _settings_option(default: str) -> Any:
    text = "model setting, such as vgs_layer=6, image_dim=1280 or speech_head=attention; may be repeated"
    return option((), name="--set", metavar="KEY=VALUE", help=f"{text} (default: {default})", repeated=True)


@dataclass(frozen=True)
class FastVgs:
    """Options of ``import fast-vgs``."""

    bundle: Path = option(help="best_bundle.pth or another bundle", positional=True)
    output: Path = option(help="checkpoint to write, such as NAME.pt", positional=True)
    force: bool = option(False, help="replace an existing OUTPUT")
    settings_file: Path | None = option(
        None,
        name="--args",
        metavar="FILE",
        help="args.pkl of the run (default: the one next to BUNDLE, else the settings of the authors' VGS+)",
    )
    settings: tuple[str, ...] = _settings_option("the bundle's")


@dataclass(frozen=True)
class Wav2Vec2:
    """Options of ``import wav2vec2``."""

    source: Path = option(
        help="checkpoint file or Hugging Face folder", positional=True, metavar="FILE_OR_FOLDER"
    )
    output: Path = option(help="checkpoint to write, such as NAME.pt", positional=True)
    force: bool = option(False, help="replace an existing OUTPUT")
    data: Path | None = option(
        None,
        metavar="DIR",
        help="data folder to train on, whose region features the model is made for, and which the printed "
        "command names (default: the embedded data)",
    )
    image_backbone: Path | None = option(
        None,
        metavar="FOLDER",
        help="Hugging Face folder of a vision model (DINOv2, CLIP, ...) that reads pictures instead of "
        "regions; its weights become part of OUTPUT, frozen",
    )
    settings: tuple[str, ...] = _settings_option("the file's, and those of model=paper")
    seed: int = option(1, help="seed of the random weights")


@dataclass(frozen=True)
class Hub:
    """Options of ``import hub``."""

    folder: Path = option(
        help="exported folder, or quickstart, the model that comes with the package",
        positional=True,
        parse=find_model,
    )
    output: Path = option(help="checkpoint to write, such as NAME.pt", positional=True)
    force: bool = option(False, help="replace an existing OUTPUT")
    settings: tuple[str, ...] = _settings_option("the folder's")
    seed: int = option(1, help="seed of weights that the folder lacks")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this subcommand's arguments."""
    parser.epilog = EPILOG
    sources = parser.add_subparsers(title="sources", metavar="SOURCE", required=True)
    for name, summary, options, description, convert in (
        ("fast-vgs", FAST_VGS, FastVgs, FAST_VGS_DESCRIPTION, _convert_fast_vgs),
        ("wav2vec2", WAV2VEC2, Wav2Vec2, WAV2VEC2_DESCRIPTION, _convert_wav2vec2),
        ("hub", HUB, Hub, HUB_DESCRIPTION, _convert_hub),
    ):
        lines = [line for line in EPILOG.splitlines() if "import" not in line or f" {name} " in line]
        texts = {"description": description, "examples": "\n".join([*lines, ""])}
        add_command(sources, name, summary, options, **texts, convert=convert, options=options)


def run(args: argparse.Namespace) -> int:
    """Convert; print what was written and how to train from it."""
    from fairseq_vgs.checkpoints.imports.paths import prepare_import

    prepare_import(args.output, force=args.force)
    imported: ImportedModel = args.convert(read_options(args, args.options))
    print(imported.checkpoint)
    print(imported.group)
    print(_training_command(imported, getattr(args, "data", None)))
    return 0


def _training_command(imported: ImportedModel, data: Path | None) -> str:
    """Return the shell command that trains from the import, from any folder."""
    from fairseq_vgs.configs import config_dir

    words = ["fairseq-hydra-train", "--config-dir", str(config_dir()), "--config-name", "vgs_plus"]
    settings = [] if data is None else [shell_override("task.data", data.absolute())]
    return " ".join([shlex.join([*words, *imported.overrides]), *settings])


def _convert_fast_vgs(options: FastVgs) -> ImportedModel:
    from fairseq_vgs.checkpoints.imports.paths import require_bundle
    from fairseq_vgs.compat.availability import require_fairseq

    args_file, overrides = options.settings_file, options.settings
    for path in (options.bundle, *([args_file] if args_file else [])):
        require_bundle(path)
    require_fairseq()
    from fairseq_vgs.checkpoints.imports.fast_vgs import import_fast_vgs

    return import_fast_vgs(
        options.bundle, options.output, settings_file=args_file, overrides=overrides, force=options.force
    )


def _convert_wav2vec2(options: Wav2Vec2) -> ImportedModel:
    from fairseq_vgs.checkpoints.imports.paths import require_folder, require_wav2vec2
    from fairseq_vgs.compat.availability import require_fairseq

    require_wav2vec2(options.source)
    if options.image_backbone is not None:
        require_folder(options.image_backbone)
    region_dim = _region_dim(options)
    require_fairseq()
    from fairseq_vgs.checkpoints.imports.wav2vec2 import REGION_DIM, import_wav2vec2

    return import_wav2vec2(
        options.source,
        options.output,
        settings=options.settings,
        image_dim=region_dim or REGION_DIM,
        image_backbone=options.image_backbone,
        seed=options.seed,
        force=options.force,
    )


def _convert_hub(options: Hub) -> ImportedModel:
    from fairseq_vgs.checkpoints.imports.paths import require_export
    from fairseq_vgs.compat.availability import require_fairseq

    require_export(options.folder)
    require_fairseq()
    from fairseq_vgs.checkpoints.imports.hub import import_hub

    return import_hub(
        options.folder, options.output, settings=options.settings, seed=options.seed, force=options.force
    )


def _region_dim(options: Wav2Vec2) -> int | None:
    """Return the dims of the features to train on; None if the model reads pictures, or without the data."""
    from fairseq_vgs.configs import embedded_data
    from fairseq_vgs.files.faults import FaultError, fault
    from fairseq_vgs.manifest import ManifestFolder
    from fairseq_vgs.media.region_features import open_features

    features = ManifestFolder(options.data or embedded_data()).region_features
    if options.image_backbone or any("image_encoder=" in one for one in options.settings):
        return None
    if features.is_file():
        return int(open_features(features).shape[1])
    if options.data is None:
        return None
    step = (
        "compute them with fairseq-vgs prepare regions, or let the model read pictures with "
        "--image-backbone FOLDER or --set image_encoder=patches"
    )
    raise FaultError(fault(str(features), "must be there", "no region features", step, code="file.missing"))
