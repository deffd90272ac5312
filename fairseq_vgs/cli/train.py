"""Train a scenario on a data folder: compose fairseq-hydra-train, print the command, run it.

The command is printed first, so that you can go on without this one at any time. Repeat it to go on with a
run that was stopped or killed. The model's size and the number of updates follow from the number of training
pairs, the device from the machine; KEY=VALUE overrides anything, as for fairseq-hydra-train.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fairseq_vgs.checkpoints.places import find_model, refuse_export
from fairseq_vgs.configs.scenarios import Scenario
from fairseq_vgs.options import add_options, option, positive, read_options

if TYPE_CHECKING:
    from fairseq_vgs.launch.data import TrainingData
    from fairseq_vgs.launch.training import Training
    from fairseq_vgs.launch.watch import Outcome

EPILOG = """\
examples:
  fairseq-vgs train DATA
  fairseq-vgs train DATA --scenario w2v2 --output outputs/w2v2
  fairseq-vgs train DATA --scenario w2v2_then_vgs --init outputs/w2v2 --output outputs/w2v2_then_vgs
  fairseq-vgs train DATA --size small optimization.max_update=20000 model.vgs_layer=3
  fairseq-vgs train DATA --dry-run

OUTPUT holds train.log (fairseq's whole log), history.jsonl (losses and recalls) and checkpoints/.
"""


@dataclass(frozen=True)
class Options:
    """Options of ``train``."""

    data: Path = option(help="data folder, as fairseq-vgs prepare builds it", positional=True)
    overrides: tuple[str, ...] = option(
        (),
        help="settings, passed on last; base.yaml lists them",
        positional=True,
        metavar="KEY=VALUE",
    )
    scenario: Scenario = option(
        "vgs_plus", help="SSL (w2v2), VGS or both; A_then_B is the second phase, B from A"
    )
    size: Literal["auto", "tiny", "small", "paper"] = option(
        "auto",
        help="model and recipe; auto: tiny below 10,000 pairs, paper from 200,000 on a GPU, else small",
    )
    output: Path | None = option(
        None,
        metavar="RUN",
        help="folder of the run (default: outputs/NAME-SCENARIO-SIZE[-seedN])",
    )
    init: Path | None = option(
        None,
        metavar="CHECKPOINT_OR_RUN",
        help="weights to start from; of a run, its last checkpoint",
        parse=find_model,
    )
    seed: int = option(1, help="of weights, masks and batches", metavar="N", parse=positive)
    device: Literal["auto", "cpu", "cuda"] = option("auto", help="auto: the GPUs, where torch finds some")
    dry_run: bool = option(False, help="try settings, model and data, print the command and stop")


def add_arguments(parser: Any) -> None:
    """Add the options; settings may stand between and after them."""
    add_options(parser, Options)
    parser.late_words = "overrides"
    parser.set_defaults(usage_error=parser.error)


def run(args: argparse.Namespace) -> int:
    """Train; return the exit status of training.

    Raises:
        FaultError: all that ``training_data`` and ``compose_training`` refuse.
    """
    from fairseq_vgs.cli.parser import usage_errors
    from fairseq_vgs.files.output import try_output

    options = read_options(args, Options)
    if options.init is not None:
        refuse_export(options.init.expanduser())
    output = None if options.output is None else options.output.expanduser()
    if not options.dry_run:
        try_output(output or Path("outputs").absolute(), option="--output")
    from fairseq_vgs.launch.data import training_data
    from fairseq_vgs.launch.hardware import find_hardware
    from fairseq_vgs.launch.training import Choices, compose_training

    data = training_data(options.data)
    with usage_errors(args):
        choices = Choices(
            options.scenario, options.size, output, options.init, options.seed, options.overrides
        )
        training = compose_training(data, choices, find_hardware(options.device))
    if options.dry_run:
        _rehearse(training)
        print(training.shell)
        return 0
    from fairseq_vgs.compat.availability import require_fairseq
    from fairseq_vgs.launch.watch import run_training

    require_fairseq()
    print(*training.notes, training.shell, f"log: {_log(training)}", sep="\n", file=sys.stderr)
    outcome = run_training(training)
    if outcome.status != 0:
        _explain(training, outcome)
    else:
        print(_summary(training, data, outcome))
    return outcome.status


def _rehearse(training: Training) -> None:
    """Do what training does before its first update: settings, model and data are tried.

    Raises:
        FaultError: what would end the run, at its place.
    """
    from fairseq_vgs.compat.availability import fairseq_problem

    if (problem := fairseq_problem()) is not None:
        print(f"note: settings and data were not tried; {problem}", file=sys.stderr)
        return
    from fairseq_vgs.checkpoints.rehearsal import Rehearsal
    from fairseq_vgs.launch.command import overrides_of

    words = training.command
    folder, primary = (words[words.index(option) + 1] for option in ("--config-dir", "--config-name"))
    Rehearsal(with_data=True).of(Path(folder), primary, overrides_of(words))


def _log(training: Training) -> Path:
    from fairseq_vgs.launch.watch import LOG

    return training.run / LOG


def _explain(training: Training, outcome: Outcome) -> None:
    from fairseq_vgs.cli.main import EXIT_INTERRUPTED, EXIT_TERMINATED

    if outcome.status in (EXIT_INTERRUPTED, EXIT_TERMINATED):
        how = "interrupted" if outcome.status == EXIT_INTERRUPTED else "terminated"
        print(
            f"{how} after update {outcome.history.update}; run the same command again to go on",
            file=sys.stderr,
        )
        return
    print(_cause(training, outcome), file=sys.stderr)
    print(f"training failed; its log is {_log(training)}", file=sys.stderr)


def _cause(training: Training, outcome: Outcome) -> str:
    """Return what ended a run; of errors of Hydra before the first update, the setting at fault."""
    from fairseq_vgs.files.faults import FaultError

    if not outcome.history.update and "\n" in outcome.errors:  # not one line of this package
        try:
            _rehearse(training)
        except FaultError as error:
            return str(error)
    return outcome.errors or f"training ended with exit status {outcome.status}"


def _summary(training: Training, data: TrainingData, outcome: Outcome) -> str:
    """Say what came out, and what to do with it."""
    from fairseq_vgs.cli.main import SUBCOMMANDS

    best, history = training.run / "checkpoints" / "checkpoint_best.pt", outcome.history
    lines = ["the run was finished before: nothing to do"] if outcome.was_finished else []
    if history.best is not None:
        lines.append(f"best R@10 in validation, after update {history.best.update}: {history.best}")
    elif history.last is not None:
        lines.append(f"validation after update {history.last.update}: {history.last}")
    split = next((name for name in ("test", "valid") if name in data.splits), "valid")
    results = training.run / "results"
    following = [
        ["evaluate", "retrieval", best, data.path, "--split", split, "--output", results],
        ["gallery", results, data.path, training.run / "gallery"],
    ]
    if "demo" in SUBCOMMANDS:
        following.append(["demo", training.run, data.path])
    commands = [shlex.join(["fairseq-vgs", *map(str, words)]) for words in following]
    return "\n".join([*lines, f"checkpoint: {best}", "next:", *(f"  {command}" for command in commands)])
