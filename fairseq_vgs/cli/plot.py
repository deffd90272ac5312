"""Draw plots from result files as PNG, PDF or SVG, with a CSV of the drawn values."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairseq_vgs.cli.parser import add_command, usage_errors
from fairseq_vgs.evaluation.evaluator import EVALUATORS
from fairseq_vgs.options import option

if TYPE_CHECKING:
    from fairseq_vgs.report.plots import Figure

EXAMPLES = {
    "training": (
        "outputs/my_run/history.jsonl outputs/training.png",
        "outputs/my_run/history.jsonl outputs/training.pdf",
    ),
    "recall": (
        "outputs/run_a/history.jsonl outputs/run_b/history.jsonl outputs/recall.png",
        "RUN1/history.jsonl RUN2/history.jsonl outputs/recall.png --titles VGS VGS+ --force",
    ),
    "probes": ("outputs/my_run/probes.jsonl outputs/probes.png",),
    "abx": ("RUN/checkpoints/checkpoint_best_abx_within_within outputs/abx.png",),
    "lexical": ("RUN/checkpoints/checkpoint_best_lexical_test outputs/words.png",),
}
LOGS = """
LOG of a training or recall plot is the run's history.jsonl, which has every update. Logs of fairseq work too:
common.log_file and hydra_train.log, as JSON (common.log_format=json) or plain text (mostly one point per
epoch).
"""
PROBES = "\nProbes are written by runs with task.probe_interval=N.\n"
PROBES_SUMMARY = (
    "cosine of the losses' gradients and drift (CKA) of every layer over updates (task.probe_interval)"
)
_NOTES = {"training": LOGS, "recall": LOGS, "probes": PROBES}


@dataclass(frozen=True)
class Output:
    """Output options of ``plot``."""

    output: Path = option(
        help="file that ends in .png, .pdf or .svg; a .csv of the same name holds the drawn values",
        positional=True,
    )
    force: bool = option(False, help="replace existing files")


@dataclass(frozen=True)
class Log:
    """Input of a plot of one run."""

    log: Path = option(help="the run's history.jsonl (probes: probes.jsonl)", positional=True)


@dataclass(frozen=True)
class Logs:
    """Input of a plot of several runs."""

    log: tuple[Path, ...] = option(help="logs of the runs", positional=True)
    titles: tuple[str, ...] | None = option(None, help="one for each log", metavar="TITLE")


@dataclass(frozen=True)
class Results:
    """Input of a plot by layer."""

    results: tuple[Path, ...] = option(
        help="result folders of this evaluation from fairseq-vgs evaluate", positional=True
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this subcommand's arguments."""
    parser.epilog = _epilog(*EXAMPLES) + LOGS + PROBES
    kinds = parser.add_subparsers(title="plots", metavar="PLOT", dest="plot", required=True)
    plots = PLOTS | {
        name: (f"{evaluator.axis or name} of every layer, with chance", Results, _layer_figure)
        for name, evaluator in EVALUATORS.items()
        if evaluator.layered
    }
    for name, (summary, options, make) in plots.items():
        examples = _epilog(name) + _NOTES.get(name, "")
        add_command(kinds, name, summary, options, Output, examples=examples, make=make)


def run(args: argparse.Namespace) -> int:
    """Draw the plot; print the paths of the files.

    Raises:
        FaultError: Existing or unwritable output, or logs that cannot be read.
    """
    from fairseq_vgs.files.output import refuse_existing, try_output
    from fairseq_vgs.report.plots import require_suffix, write_figure

    with usage_errors(args):
        require_suffix(args.output)
    refuse_existing(args.output, args.output.with_suffix(".csv"), force=args.force)
    try_output(args.output.parent, option="OUTPUT")
    table = write_figure(args.make(args), args.output, force=args.force)
    print(args.output, table, sep="\n")
    return 0


def _epilog(*names: str) -> str:
    examples = ((name, EXAMPLES.get(name, ("RESULTS outputs/layers.png",))) for name in names)
    lines = [f"  fairseq-vgs plot {name} {arguments}" for name, found in examples for arguments in found]
    return "\n".join(["examples:", *lines, ""])


def _training_figure(args: argparse.Namespace) -> Figure:
    from fairseq_vgs.report.figures import training_figure
    from fairseq_vgs.report.run_logs import read_training_log

    log = read_training_log(args.log)
    if log.n_rewinds:
        note = f"note: the run was resumed {log.n_rewinds} times; repeated updates count once"
        print(note, file=sys.stderr)
    return training_figure(log)


def _probe_figure(args: argparse.Namespace) -> Figure:
    from fairseq_vgs.report.figures import probe_figure
    from fairseq_vgs.report.run_logs import read_probes

    return probe_figure(read_probes(args.log))


def _recall_figure(args: argparse.Namespace) -> Figure:
    from fairseq_vgs.evaluation.compare import short_titles
    from fairseq_vgs.files.faults import FaultError, fault
    from fairseq_vgs.report.figures import recall_figure
    from fairseq_vgs.report.run_logs import read_training_log

    titles = args.titles or short_titles(args.log)
    if len(titles) != len(args.log) or len(set(titles)) != len(titles):
        expected = f"must be {len(args.log)} different titles, one for each log"
        step = "give every log once and a title for each"
        raise FaultError(fault("--titles", expected, titles, step, code="plot.titles"))
    return recall_figure({title: read_training_log(log) for title, log in zip(titles, args.log, strict=True)})


def _layer_figure(args: argparse.Namespace) -> Figure:
    from fairseq_vgs.evaluation.compare import short_titles
    from fairseq_vgs.evaluation.results import METRICS_NAME, read_metrics
    from fairseq_vgs.report.figures import layer_figure

    named = zip(short_titles(args.results), args.results, strict=True)
    return layer_figure({title: read_metrics(path / METRICS_NAME, kind=args.plot) for title, path in named})


PLOTS: dict[str, tuple[str, type[Any], Callable[[argparse.Namespace], Figure]]] = {
    "training": ("losses, recalls (with chance) and alpha over updates", Log, _training_figure),
    "probes": (PROBES_SUMMARY, Log, _probe_figure),
    "recall": ("recall of several runs over updates, with chance", Logs, _recall_figure),
}
