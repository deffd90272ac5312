"""Write a trained model as a folder that torch and transformers load, without fairseq and this package.

The folder holds the modelling files, settings, weights, preprocessing of speech and pictures, a model card,
an example, and an upstream for S3PRL. It is compared with the model before it appears.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fairseq_vgs.checkpoints.places import (
    EXPORTED_WEIGHTS,
    find_checkpoint,
    find_model,
    refuse_export,
)
from fairseq_vgs.options import option, read_options

if TYPE_CHECKING:
    from fairseq_vgs.checkpoints.load import Checkpoint
    from fairseq_vgs.evaluation.results import Result
    from fairseq_vgs.report.card import Facts

EPILOG = """\
examples:
  fairseq-vgs export RUN hub/vgs_plus
  fairseq-vgs export RUN/checkpoints/checkpoint_last.pt hub/vgs_plus --half --force
  fairseq-vgs export RUN graphs/vgs_plus --graphs onnx

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
        parse=find_model,
    )
    output: Path = option(help="folder to write", positional=True, metavar="OUTPUT")
    plain: bool = option(
        False,
        help="write the speech encoder alone, as a Wav2Vec2Model that needs no code (use_cls=false only)",
        exclusive="parts",
    )
    half: bool = option(
        False, help="store the weights in half precision, in half the space; they compute in fp32"
    )
    bare: bool = option(
        False,
        help="settings, weights and card alone, for vgs.load and the commands of this package: no modelling "
        "files, no region network",
        exclusive="parts",
    )
    graphs: Literal["onnx", "torch"] | None = option(
        None,
        help="write speech and image encoder as two graphs that need no code: for onnxruntime, or for "
        "torch.export.load; RUN may also be an exported folder",
        exclusive="parts",
    )
    opset: int = option(20, help="version of ONNX's operators, 18 to 25", metavar="N")
    card: Path | None = option(
        None,
        metavar="FILE",
        help="YAML file with what no file of the run tells: language, license, data and others",
    )
    results: tuple[Path, ...] = option(
        (),
        metavar="DIR",
        repeated=True,
        help="results of this checkpoint, or of OUTPUT as exported before, for the model card, or a folder "
        "of several; may be repeated (default: those next to the checkpoint, in its run, next to its run and "
        "in the working directory)",
    )
    force: bool = option(False, help="replace an older export")


def run(args: argparse.Namespace) -> int:
    """Export; print the folder and how to load it."""
    from fairseq_vgs.files.output import EXPORT, refuse_output
    from fairseq_vgs.files.torch_files import require_file

    options = read_options(args, Options)
    if options.graphs:
        return _export_graphs(options, options.graphs)
    refuse_export(options.source)
    path = find_checkpoint(options.source)
    refuse_output(options.output, maker=EXPORT, force=options.force, inputs=[path])
    require_file(path)
    from fairseq_vgs.checkpoints.load import load_checkpoint
    from fairseq_vgs.report.card import Facts, find_results, read_facts

    facts = Facts() if options.card is None else read_facts(options.card)
    checkpoint = load_checkpoint(path)
    results = find_results(checkpoint, options.results, exported=options.output / EXPORTED_WEIGHTS)
    _export(checkpoint, options, facts, results)
    print(options.output)
    trust = "" if options.plain else ", trust_remote_code=True"
    load = "fairseq_vgs.load(%s)" if options.bare else f"AutoModel.from_pretrained(%s{trust})"
    print(load % f'"{options.output}"')
    if not results:
        step = f"run fairseq-vgs evaluate retrieval {shlex.quote(str(path))} DATA --output RESULTS"
        again = "and export again with --force --results RESULTS"
        print(f"no evaluation in the card: no results of {path.name} found; {step}, {again}", file=sys.stderr)
    if facts.missing:
        print(f"not stated in the card: {', '.join(facts.missing)}; give them with --card", file=sys.stderr)
    return 0


def _export(checkpoint: Checkpoint, options: Options, facts: Facts, results: Sequence[Result]) -> None:
    from fairseq_vgs.checkpoints.exports.folder import Layout, Reading, export_checkpoint, export_plain
    from fairseq_vgs.checkpoints.load import section
    from fairseq_vgs.checkpoints.phases import read_phases
    from fairseq_vgs.features.embeddings import embedded_speech, picture_options
    from fairseq_vgs.manifest.summary import training_data
    from fairseq_vgs.report.card import model_card

    phases = read_phases(checkpoint.path)
    for file in phases.files:
        print(f"note: the card says how the earlier phase was trained, read from {file}", file=sys.stderr)
    if not phases.is_whole:
        step = "put back the checkpoint that the run started from, or say under command in --card what it was"
        print(f"note: an earlier phase is unknown in the card; {step}", file=sys.stderr)
    said: dict[str, Any] = {"facts": facts, "phases": phases, "results": results}
    how: dict[str, Any] = {"half": options.half, "plain": options.plain, "bare": options.bare}
    card = partial(model_card, checkpoint, name=options.output.absolute().name, **said, **how)
    task, model = (section(checkpoint.config, name) for name in ("task", "model"))
    reading = Reading(*embedded_speech(task), *picture_options(task, model))
    given: dict[str, Any] = {"reading": reading, "card": card, "force": options.force}
    if options.plain:
        export_plain(checkpoint, options.output, half=options.half, **given)
        return
    layout = Layout(half=options.half, bare=options.bare)
    known = training_data(checkpoint.config)
    export_checkpoint(checkpoint, options.output, layout=layout, training_data=known, **given)


def _export_graphs(options: Options, graph_format: Literal["onnx", "torch"]) -> int:
    from fairseq_vgs.files.faults import FaultError
    from fairseq_vgs.files.output import EXPORT, refuse_output
    from fairseq_vgs.files.torch_files import require_file

    if given := [name for name in ("half", "card", "results") if getattr(options, name)]:
        message = "must be left out with --graphs, which writes fp32 and no model card"
        raise FaultError.at(f"--{given[0]}", message, "export.settings")
    path = find_checkpoint(options.source)
    refuse_output(options.output, maker=EXPORT, force=options.force, inputs=[path])
    require_file(path)
    from fairseq_vgs.checkpoints.exports.folder import Reading
    from fairseq_vgs.checkpoints.exports.graphs import export_graphs, require_graphs
    from fairseq_vgs.checkpoints.load import section
    from fairseq_vgs.checkpoints.open import open_checkpoint
    from fairseq_vgs.features.embeddings import embedded_speech, picture_options

    require_graphs(graph_format, options.opset)
    checkpoint = open_checkpoint(path)
    task, model = (section(checkpoint.config, name) for name in ("task", "model"))
    export_graphs(
        checkpoint,
        options.output,
        reading=Reading(*embedded_speech(task), *picture_options(task, model)),
        graph_format=graph_format,
        opset=options.opset,
        force=options.force,
    )
    print(options.output)
    return 0
