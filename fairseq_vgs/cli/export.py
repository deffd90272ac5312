"""Write a trained model as a folder that torch and transformers load, without fairseq and this package.

The folder holds the modelling files, settings, weights, preprocessing of speech and pictures, a model card,
an example, and an upstream for S3PRL. It is compared with the model before it appears.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import dataclass
from functools import partial
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
    plain: bool = option(
        False,
        help="write the speech encoder alone, as a Wav2Vec2Model that needs no code (use_cls=false only)",
    )
    card: Path | None = option(
        None,
        metavar="FILE",
        help="YAML file with what no file of the run tells: language, license, data and others",
    )
    results: tuple[Path, ...] = option(
        (),
        metavar="DIR",
        repeated=True,
        help="results of this checkpoint for the model card, or a folder of several; may be repeated "
        "(default: those next to it, in its run, next to its run and in the working directory)",
    )
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
    from fairseq_vgs.checkpoints.exports.folder import Reading, export_checkpoint, export_plain
    from fairseq_vgs.checkpoints.load import load_checkpoint, section
    from fairseq_vgs.checkpoints.phases import read_phases
    from fairseq_vgs.features.embeddings import embedded_speech, picture_options
    from fairseq_vgs.report.card import Facts, find_results, model_card, read_facts

    facts = Facts() if options.card is None else read_facts(options.card)
    checkpoint = load_checkpoint(path)
    task, model = (section(checkpoint.config, name) for name in ("task", "model"))
    name = options.output.absolute().name
    phases, results = read_phases(path), find_results(checkpoint, options.results)
    for file in phases.files:
        print(f"note: the card says how the earlier phase was trained, read from {file}", file=sys.stderr)
    card = partial(
        model_card,
        checkpoint,
        name=name,
        facts=facts,
        phases=phases,
        results=results,
        plain=options.plain,
    )
    reading = Reading(*embedded_speech(task), *picture_options(task, model))
    export = export_plain if options.plain else export_checkpoint
    export(checkpoint, options.output, reading=reading, card=card, force=options.force)
    print(options.output)
    trust = "" if options.plain else ", trust_remote_code=True"
    print(f'AutoModel.from_pretrained("{options.output}"{trust})')
    if not results:
        step = f"run fairseq-vgs evaluate retrieval {shlex.quote(str(path))} DATA --output RESULTS"
        again = "and export again with --force --results RESULTS"
        print(f"no evaluation in the card: no results of {path.name} found; {step}, {again}", file=sys.stderr)
    if facts.missing:
        print(f"not stated in the card: {', '.join(facts.missing)}; give them with --card", file=sys.stderr)
    return 0
