"""Train scenarios x seeds, evaluate them over training, compare them on one page.

Runs the scenarios of a study file with every seed, each phase a plain fairseq-hydra-train, and evaluates the
saved checkpoints. It can be stopped or killed at any moment: repeat the command to continue. Afterwards (or
with --report-only at any time) report.html, tables, curves and verdicts are in OUTPUT.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fairseq_vgs.device import visible_gpus
from fairseq_vgs.options import option, positive

if TYPE_CHECKING:
    from fairseq_vgs.study.plan import StudyFolder
    from fairseq_vgs.study.results import StudyResults
    from fairseq_vgs.study.settings import StudySettings

EPILOG = """\
examples:
  fairseq-vgs study "$(fairseq-vgs configs)/study.yaml" --quick
  fairseq-vgs study "$(fairseq-vgs configs)/study.yaml" --output outputs/study --processes 8
  fairseq-vgs study my_study.yaml --gpus 0,1,2,3
  fairseq-vgs study my_study.yaml --pilot
  fairseq-vgs study my_study.yaml --dry-run
"""


def _gpus(text: str) -> list[str]:
    numbers = [part.strip() for part in text.split(",")]
    if not all(numbers):
        raise argparse.ArgumentTypeError(f"must be numbers of GPUs such as 0,1, got {text!r}")
    return numbers


@dataclass(frozen=True)
class Options:
    """Options of ``study``."""

    study: Path = option(help="the study file", positional=True, metavar="STUDY.yaml")
    quick: bool = option(False, help="run the smaller study under the key quick of the file")
    pilot: bool = option(
        False,
        help="run the seeds of the file's key pilot on validation data, and propose how many seeds the "
        "questions need",
    )
    output: Path | None = option(
        None,
        metavar="DIR",
        help="folder of all files (default: outputs/NAME of the study file, with --quick NAME_quick, with "
        "--pilot NAME_pilot)",
    )
    processes: int | None = option(
        None,
        metavar="N",
        help="CPU processes at a time (default without a GPU: one per core)",
        parse=positive,
        exclusive="where",
    )
    gpus: list[str] | None = option(
        None,
        metavar="LIST",
        help="GPUs to use, one run at a time on each, such as 0,1 (default: all, unless --processes)",
        parse=_gpus,
        exclusive="where",
    )
    report_only: bool = option(False, help="write tables, curves and the page; run nothing")
    dry_run: bool = option(
        False, help="check all that a start would need, and print the runs and their commands; run nothing"
    )


def run(args: argparse.Namespace) -> int:
    """Run the study; the page is written even if runs fail, which are listed at the end.

    Raises:
        FaultError: All that ``check_study`` finds; with ``--report-only``, ``study.missing``.
    """
    from fairseq_vgs.compat.availability import require_fairseq
    from fairseq_vgs.files.faults import FaultError, fault
    from fairseq_vgs.files.output import try_output

    name = "_".join([args.study.stem, *(word for word in ("quick", "pilot") if getattr(args, word))])
    output = (args.output or Path("outputs") / name).resolve()
    try_output(output, option="--output")
    require_fairseq()
    from fairseq_vgs.study.check import check_study
    from fairseq_vgs.study.markers import refuse_other_measurement, refuse_other_settings, training_data
    from fairseq_vgs.study.page import write_all
    from fairseq_vgs.study.plan import StudyFolder, plan_runs
    from fairseq_vgs.study.read import read_settings
    from fairseq_vgs.study.results import collect
    from fairseq_vgs.study.runner import Slot, StudyRunner, cpu_slots

    settings = read_settings(args.study, quick=args.quick, pilot=args.pilot)
    folder = StudyFolder(output)
    gpus = args.gpus or ([] if args.processes else visible_gpus())
    if not args.report_only:
        _check_prepare(settings, args.study, folder)
    if args.dry_run:
        needed = check_study(settings, folder, args.study)
        _print_plan(settings, folder, needed=needed, on_gpu=bool(gpus))
        return 0
    failures: dict[str, str] = {}
    if args.report_only:
        if not folder.settings.is_file():
            expected, step = "must be the folder of a study", "run the study first, or correct --output"
            raise FaultError(fault(str(folder.path), expected, "no study.json", step, code="study.missing"))
        runs = plan_runs(settings)
        refuse_other_settings(runs, settings, folder, training_data(settings, folder))
        refuse_other_measurement(runs, settings, folder)
    else:
        check_study(settings, folder, args.study)
        slots = [Slot(gpu=gpu) for gpu in gpus] if gpus else cpu_slots(args.processes)
        failures = StudyRunner(settings, folder, slots).run()
    results = collect(settings, folder)
    print(write_all(results, folder.path))
    if args.pilot:
        _print_proposals(results, folder)
    _print_failures(failures, folder)
    return 1 if failures else 0


def _print_failures(failures: Mapping[str, str], folder: StudyFolder) -> None:
    for run_name, reason in failures.items():
        log = folder.run(run_name).log
        first_line, see = reason.partition("\n")[0], f"; see {log}" if log.exists() else ""
        print(f"{run_name}: {first_line}{see}", file=sys.stderr)


def _print_proposals(results: StudyResults, folder: StudyFolder) -> None:
    from fairseq_vgs.study.pilot import proposal_table, propose, write_proposals
    from fairseq_vgs.study.statistics import Sampler
    from fairseq_vgs.study.verdicts import judge

    proposals = propose(judge(results, Sampler()), results.settings.pilot.precision)
    print(f"\n{proposal_table(proposals)}")
    print(f"\n{write_proposals(proposals, folder.results)}", file=sys.stderr)


def _check_prepare(settings: StudySettings, study: Path, folder: StudyFolder) -> None:
    """Refuse arguments that ``prepare`` would refuse, if the data is to be made."""
    from fairseq_vgs.cli.main import build_parser
    from fairseq_vgs.files.faults import FaultError, fault
    from fairseq_vgs.study.read import NEXT_STEP

    for one in settings.prepared:
        if folder.data(one.folder).exists():
            continue
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said):
                build_parser().parse_args(["prepare", *one.arguments])
        except SystemExit:
            reason = said.getvalue().strip().splitlines()[-1]
            expected = f"{one.key} must be arguments of fairseq-vgs prepare"
            raise FaultError(fault(str(study), expected, reason, NEXT_STEP, code="setting.value")) from None


def _print_plan(settings: StudySettings, folder: StudyFolder, *, needed: int, on_gpu: bool) -> None:
    from fairseq_vgs.study.check import OTHER_CHECKPOINTS, start_of
    from fairseq_vgs.study.launch import training_command
    from fairseq_vgs.study.plan import plan_runs, points_of

    data = folder.data(settings.data).resolve()
    unmade = [folder.data(one.folder) for one in settings.prepared if not folder.data(one.folder).exists()]
    n_checkpoints = 0
    for planned in plan_runs(settings):
        n_checkpoints += len(points_of(planned, settings))
        start, place = start_of(planned, folder), folder.run(planned.name)
        command = training_command(planned, settings, data=data, folder=place, start=start, on_gpu=on_gpu)
        print(f"# {planned.name}: {planned.max_update} updates", shlex.join(command), sep="\n")
    size = f"up to {OTHER_CHECKPOINTS} more of each run: {needed / 1e9:.2g} GB to come"
    print(f"# {n_checkpoints} checkpoints stay on disk, and {size}")
    for path in unmade:
        print(f"# not checked: {path}, which prepare is to make")
