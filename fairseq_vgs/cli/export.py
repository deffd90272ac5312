"""Write a trained model as a folder that torch and transformers load, without fairseq and this package.

The folder holds the modelling files, settings, weights, preprocessing of speech and pictures, a model card,
an example, and an upstream for S3PRL. It is compared with the model before it appears.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from fairseq_vgs.options import option, read_options

EPILOG = """\
examples:
  fairseq-vgs export RUN hub/vgs_plus
  fairseq-vgs export RUN/checkpoints/checkpoint_last.pt hub/vgs_plus --force

load it:
  from transformers import AutoModel
  model = AutoModel.from_pretrained("hub/vgs_plus", trust_remote_code=True)
"""


@dataclass(frozen=True)
class Options:
    """Options of ``export``."""

    source: Path = option(
        help="folder of a training run, of which the best checkpoint is taken, or a checkpoint",
        positional=True,
        metavar="RUN",
    )
    output: Path = option(help="folder to write", positional=True, metavar="OUTPUT")
    force: bool = option(False, help="replace an older export")


def run(args: argparse.Namespace) -> int:
    """Export; print the folder and how to load it."""
    from fairseq_vgs.files.output import EXPORT, refuse_output
    from fairseq_vgs.files.torch_files import require_file

    options = read_options(args, Options)
    path = options.source
    if (path / "checkpoints").is_dir():
        path = path / "checkpoints" / "checkpoint_best.pt"
    refuse_output(options.output, maker=EXPORT, force=options.force, inputs=[path])
    require_file(path)
    from fairseq_vgs.checkpoints.exports.folder import Reading, export_checkpoint
    from fairseq_vgs.checkpoints.load import load_checkpoint, section
    from fairseq_vgs.features.embeddings import embedded_speech, picture_options

    checkpoint = load_checkpoint(path)
    task, model = (section(checkpoint.config, name) for name in ("task", "model"))
    reading = Reading(*embedded_speech(task), *picture_options(task, model))
    export_checkpoint(checkpoint, options.output, reading=reading, force=options.force)
    print(options.output)
    print(f'AutoModel.from_pretrained("{options.output}", trust_remote_code=True)')
    return 0
