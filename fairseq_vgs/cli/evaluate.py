"""Measure what a trained model has learned.

The results table goes to stdout; metrics.json and the values of every item go to the output folder.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

from fairseq_vgs.checkpoints.places import find_model
from fairseq_vgs.cli.parser import add_command, usage_errors
from fairseq_vgs.device import device_option
from fairseq_vgs.evaluation.evaluator import (
    EVALUATORS,
    MFCC,
    NO_BASELINE,
    UNTRAINED,
    CommonSettings,
    Evaluator,
    chosen_baselines,
)
from fairseq_vgs.files.faults import FaultError, fault
from fairseq_vgs.options import add_options, option, positive, read_options

RUN_DESCRIPTION = """\
Measure retrieval and, with --abx, phone discrimination of every saved checkpoint of a run; --also adds any
other evaluation. The same model with fresh weights, MFCC and chance are shown for comparison. There is one
results folder per checkpoint and evaluation; existing results are kept, or refused if they were made from
something else (another split, other items, ...). A table goes to stdout; fairseq-vgs compare adds paired
differences. The table shows the best output of a transformer layer (from layer_1; evaluate abx also measures
their input, layer_0), chosen on these same items, so it is slightly better than on other items.
Train with checkpoint.save_interval_updates=N checkpoint.keep_interval_updates=-1.
"""
RUN_EPILOG = """\
examples:
  fairseq-vgs evaluate run outputs/my_run DATA
  fairseq-vgs evaluate run outputs/my_run DATA --abx manifests/embedded/abx --every 100
  fairseq-vgs evaluate run RUN DATA --abx DEV_CLEAN --items triphone.item --abx-speakers within across
  fairseq-vgs evaluate run RUN DATA --also "lexical WORDS"
"""


@dataclass(frozen=True)
class Places:
    """Options of every evaluation of one checkpoint, in addition to the evaluator's."""

    checkpoint: Path = option(
        help="a run's folder, of which the best checkpoint is taken, a checkpoint, a folder of fairseq-vgs "
        "export, quickstart (the model that comes with the package), or fairseq's own wav2vec2 where only "
        "layers are needed",
        positional=True,
        metavar="RUN",
        parse=find_model,
    )
    output: Path | None = option(
        None,
        metavar="DIR",
        help="folder for the results (default: next to the checkpoint, such as "
        "checkpoint_best_retrieval_test; in ./results if that place is read-only, shared, or another user's)",
    )
    json: bool = option(False, help="print metrics.json instead of the table")
    force: bool = option(False, help="replace existing results")


@dataclass(frozen=True)
class RunSettings:
    """Options of ``evaluate run``."""

    run_folder: Path = option(help="run folder, with checkpoints/ in it", metavar="RUN", positional=True)
    data: Path = option(help="the data folder, as in task.data", positional=True)
    split: str = option("test", help="split of DATA")
    every: int = option(
        1, parse=positive, metavar="N", help="only checkpoints after a multiple of N updates (default: all)"
    )
    at: tuple[int, ...] = option(
        (), parse=positive, metavar="N", help="checkpoints after these numbers of updates too"
    )
    output: Path | None = option(
        None, metavar="DIR", help="default: RUN/evaluation; in ./results if RUN is read-only or shared"
    )
    abx: Path | None = option(None, metavar="DIR", help="folder of recordings and ABX items")
    items: str | None = option(
        None,
        name="--items --abx-items",
        metavar="NAME",
        help="item file in the folder of --abx (default: the only one)",
    )
    abx_speakers: tuple[Literal["within", "across"], ...] = option(
        ("within",), metavar="MODE", help="compare phones of one speaker (within), of two (across), or both"
    )
    also: tuple[str, ...] = option(
        (),
        repeated=True,
        metavar="'NAME DATA ...'",
        help="another evaluation and its arguments without the checkpoint, in quotes; may be repeated",
    )
    baseline: tuple[str, ...] = option(
        (),
        repeated=True,
        choices=(UNTRAINED, MFCC, NO_BASELINE),
        help="also measure the model with fresh weights, as update 0, or MFCC; may be repeated "
        "(default: both)",
    )
    seed: int = option(1, name="--seed --untrained-seed", help="seed of the untrained weights")
    device: str = device_option()
    force: bool = option(False, help="replace results made with other settings or data")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this subcommand's arguments: a command for each evaluator, and ``run``."""
    kinds = parser.add_subparsers(title="evaluations", metavar="EVALUATION", dest="evaluation", required=True)
    shown = []
    for name, found in EVALUATORS.items():
        evaluator = found()
        lines, rest = _examples(evaluator)
        shown += lines[:1]
        examples = "\n".join(["examples:", *lines, "", rest]) if lines else ""
        texts = {"description": evaluator.description, "examples": examples}
        options = (Places, evaluator.Settings)
        own = add_command(kinds, name, evaluator.summary, *options, **texts, run_evaluation=_evaluate)
        words = " or ".join(_BASELINE_WORDS[baseline] for baseline in evaluator.baselines)
        text = f"also evaluate {words}; may be repeated (default: all of these)"
        choices = (*evaluator.baselines, NO_BASELINE)
        own.add_argument("--baseline", choices=choices, action="append", help=text)
    summary = "retrieval, phone ABX and more of every checkpoint of a run"
    texts = {"description": RUN_DESCRIPTION, "examples": RUN_EPILOG}
    add_command(kinds, "run", summary, RunSettings, **texts, run_evaluation=_evaluate_run)
    shown.append("  fairseq-vgs evaluate run RUN DATA --abx manifests/embedded/abx")
    parser.epilog = "\n".join(["examples:", *shown, ""])


def run(args: argparse.Namespace) -> int:
    """Evaluate."""
    code: int = args.run_evaluation(args)
    return code


_BASELINE_WORDS = {UNTRAINED: "the same model with fresh weights", MFCC: "MFCC"}


def _examples(evaluator: Evaluator) -> tuple[list[str], str]:
    """Return the example lines, and the text after them."""
    lines, _, rest = evaluator.examples.partition("\n\n")
    commands = [line.strip().removeprefix("fairseq-vgs evaluate ") for line in lines.splitlines()]
    return [f"  fairseq-vgs evaluate {line}" for line in commands if line], rest


def _evaluate(args: argparse.Namespace) -> int:
    from fairseq_vgs.checkpoints.places import find_checkpoint, is_export, needs_fairseq
    from fairseq_vgs.compat.availability import require_fairseq
    from fairseq_vgs.evaluation.results import as_written, result_files
    from fairseq_vgs.files.output import refuse_existing, try_output
    from fairseq_vgs.files.torch_files import require_file

    evaluator = EVALUATORS[args.evaluation]()
    places, settings = read_options(args, Places), read_options(args, evaluator.Settings)
    with usage_errors(args):
        baselines = chosen_baselines(evaluator, args.baseline or ())
    checkpoint = find_checkpoint(places.checkpoint)
    # next to an exported folder, which may be given as a dot, and not in it
    given = places.checkpoint.absolute() if is_export(places.checkpoint) else checkpoint
    stem = given.name if is_export(places.checkpoint) else given.stem
    name = f"{stem}_{evaluator.name}_{settings.folder_name}"
    output = places.output or _results_folder(given, name)
    # what costs nothing comes before seconds of imports
    refuse_existing(*result_files(output, evaluator.files), force=places.force)
    try_output(output, option="--output")
    require_file(checkpoint)
    if needs_fairseq(checkpoint):
        require_fairseq()
    from fairseq_vgs.evaluation.evaluate import evaluate

    result = evaluate(
        evaluator, checkpoint, settings, output, baselines=baselines, command=args.command, force=places.force
    )
    if places.json:
        print(as_written(result.content))
    else:
        print("\n".join(evaluator.describe(result.content)))
        print(f"\n{evaluator.table(result)}")
        _print_notes(result.content["notes"])
    print(f"results: {output}", file=sys.stderr)
    return 0


def _results_folder(model: Path, name: str, *, within: bool = False) -> Path:
    from fairseq_vgs.checkpoints.places import results_folder

    folder, note = results_folder(model, name, within=within)
    if note:
        print(note, file=sys.stderr)
    return folder


def _print_notes(notes: Sequence[str]) -> None:
    if notes:
        print("\n" + "\n".join(f"note: {note}" for note in notes))


def _evaluate_run(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from fairseq_vgs.compat.availability import require_fairseq
    from fairseq_vgs.evaluation.compare import EVALUATION_FOLDER
    from fairseq_vgs.evaluation.over_training import checkpoints_in, evaluate_run, notes_of, score_rows
    from fairseq_vgs.files.output import try_output
    from fairseq_vgs.files.text_tables import text_table

    settings = read_options(args, RunSettings)
    output = settings.output or _results_folder(settings.run_folder, EVALUATION_FOLDER, within=True)
    is_missing = not settings.run_folder.is_dir()  # which is said later, unless --output names a place
    if not checkpoints_in(output) and (settings.output or not is_missing):
        try_output(output, option="--output")
    require_fairseq()
    with usage_errors(args):
        baselines = chosen_baselines(EVALUATORS["abx"](), args.baseline or ())
        evaluations = _evaluations(settings)
    steps = evaluate_run(
        settings.run_folder,
        evaluations,
        output,
        every=settings.every,
        at=settings.at,
        baselines=baselines,
        untrained_seed=settings.seed,
        command=args.command,
        force=settings.force,
    )
    measured = {}
    with tqdm(unit="checkpoint", file=sys.stderr, disable=None) as bar:
        for updates, results, total in steps:
            measured[updates] = results
            bar.total = total
            bar.update()
    for result in list(measured.values())[-1].values():
        evaluator = EVALUATORS[result.kind]()
        layered = ", of the best transformer layer's output (layer_1 on), chosen on these items"
        print(f"{evaluator.describe(result.content)[0]}{layered if evaluator.layered else ''}")
    print(f"\n{text_table(score_rows(measured))}")
    _print_notes(notes_of(measured))
    print(f"results: {output}", file=sys.stderr)
    return 0


def _evaluations(settings: RunSettings) -> list[Any]:
    """List what is measured of every checkpoint: retrieval, ABX and what ``--also`` names."""
    from fairseq_vgs.evaluation.over_training import Evaluation

    device = settings.device
    retrieval = EVALUATORS["retrieval"]()
    given = retrieval.Settings(data=settings.data, split=settings.split, device=device)
    found = [Evaluation(retrieval, given)]
    if settings.abx is not None:
        abx = EVALUATORS["abx"]()
        options: dict[str, Any] = {"data": settings.abx, "items": settings.items, "device": device}
        modes = dict.fromkeys(settings.abx_speakers)
        found += [Evaluation(abx, abx.Settings(**{**options, "speaker": mode})) for mode in modes]
    found += [_also(text, device=device) for text in settings.also]
    keys = [one.key for one in found]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise _wrong_also("must name each evaluation once", ", ".join(twice), "leave one out")
    return found


def _wrong_also(expected: str, got: str, step: str) -> FaultError:
    return FaultError(fault("--also", expected, got, step, code="setting.value"))


class _AlsoParser(argparse.ArgumentParser):
    """Parses the words of ``--also``; the command's own parser reports what is wrong."""

    def error(self, message: str) -> NoReturn:
        raise FaultError.at("--also", f"{message}; see fairseq-vgs evaluate --help", "setting.value")


def _also(text: str, *, device: str) -> Any:
    from fairseq_vgs.evaluation.over_training import Evaluation

    try:
        name, *arguments = shlex.split(text) or [""]
    except ValueError as error:
        raise _wrong_also(f"must be words as in a shell ({error})", text, "check its quotes") from error
    if name not in EVALUATORS:
        known = ", ".join(sorted(EVALUATORS))
        raise _wrong_also(f"must begin with one of {known}", text, "correct the name")
    evaluator = EVALUATORS[name]()
    parser = _AlsoParser(allow_abbrev=False, add_help=False)
    add_options(parser, evaluator.Settings, leave_out=("seed", "device"))
    settings: CommonSettings = read_options(parser.parse_args(arguments), evaluator.Settings, device=device)
    return Evaluation(evaluator, settings)
