"""Check before anything runs what a study would otherwise meet after hours."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fairseq_vgs.checkpoints.runs import checkpoint_after
from fairseq_vgs.evaluation.evaluator import EVALUATORS
from fairseq_vgs.evaluation.evaluators.lexical import open_words
from fairseq_vgs.features.recordings import check_items, open_recordings
from fairseq_vgs.files.faults import Fault, FaultError, fault
from fairseq_vgs.files.output import try_output
from fairseq_vgs.metrics.abx import read_items
from fairseq_vgs.study import launch
from fairseq_vgs.study.markers import is_marked, refuse_other_settings, training_data
from fairseq_vgs.study.plan import PhaseRun, StudyFolder, plan_runs, points_of
from fairseq_vgs.study.read import NEXT_STEP, require_files
from fairseq_vgs.study.settings import StudySettings

OTHER_CHECKPOINTS = 3  # of a run, at most: the last, the best, and that of the epoch


def check_study(settings: StudySettings, folder: StudyFolder, path: Path) -> int:
    """Check a study file ``path``: files, data, overrides, models, evaluation, and where results go.

    Tables of data that ``prepare`` has not made yet are not checked.

    Returns:
        Bytes that the checkpoints of unfinished runs take.

    Raises:
        FaultError: everything that is wrong, with its place.
    """
    require_files(settings, path)
    try_output(folder.path, option="--output")
    runs = plan_runs(settings)
    refuse_other_settings(runs, settings, folder, training_data(settings, folder))
    found: list[Fault] = []
    with _collected(found):
        _check_abx(settings)
    with _collected(found):
        _check_words(settings, folder, path)
    unfinished = [run for run in runs if not is_marked(folder.run(run.name).trained, run)]
    n_bytes = _rehearse(unfinished, settings, folder, found)
    needed = sum(_n_files(run, settings, folder) for run in unfinished) * n_bytes
    with _collected(found):
        _check_disk(folder, needed)
    if found:
        raise FaultError(dict.fromkeys(found))
    return needed


def start_of(run: PhaseRun, folder: StudyFolder) -> Path | None:
    """Return the checkpoint that a run starts from, with a ``*`` in its name before it exists."""
    if run.start is None:
        return None
    return checkpoint_after(folder.run(run.start).run, run.start_update)


@contextmanager
def _collected(faults: list[Fault]) -> Iterator[None]:
    try:
        yield
    except FaultError as error:
        faults += error.faults


def _rehearse(
    runs: Iterable[PhaseRun], settings: StudySettings, folder: StudyFolder, faults: list[Fault]
) -> int:
    """Go through a training command of every scenario among the runs; return a checkpoint's size in bytes."""
    from fairseq_vgs.checkpoints.rehearsal import Rehearsal

    data, n_bytes = folder.data(settings.data).resolve(), 0
    rehearsal = Rehearsal(with_data=data.exists(), splits=[settings.split])
    for run in {run.primary: run for run in runs}.values():
        place, start = folder.run(run.name), start_of(run, folder)
        command = launch.training_command(run, settings, data=data, folder=place, start=start)
        at = command.index("--config-dir")
        with _collected(faults):
            n_bytes = max(n_bytes, rehearsal.of(Path(command[at + 1]), run.primary, command[at + 4 :]))
    return n_bytes


def _check_abx(settings: StudySettings) -> None:
    """Read the items and the list of the recordings that they name."""
    abx = settings.abx_folder
    if abx is None:
        return
    recordings = open_recordings(abx, EVALUATORS["abx"].Settings(data=abx).split)
    check_items(read_items(abx / settings.abx_items), recordings, name=settings.abx_items)


def _check_words(settings: StudySettings, folder: StudyFolder, path: Path) -> None:
    """Read the words of the lexical test, unless they are to be made."""
    if settings.lexical is None:
        return
    words = folder.data(settings.lexical)
    if words.exists():
        open_words(words, settings.lexical_split)
    elif not settings.prepare_lexical:
        expected, step = "lexical must name an existing folder", f"{NEXT_STEP}, or set prepare_lexical"
        raise FaultError(fault(str(path), expected, f"none at {words}", step, code="file.missing"))


def _n_files(run: PhaseRun, settings: StudySettings, folder: StudyFolder) -> int:
    """Count the checkpoints that a run has still to write."""
    there = len(list((folder.run(run.name).run / "checkpoints").glob("checkpoint*.pt")))
    return max(0, len(points_of(run, settings)) + OTHER_CHECKPOINTS - there)


def _check_disk(folder: StudyFolder, needed: int) -> None:
    place = next(path for path in (folder.path, *folder.path.parents) if path.exists())
    free = shutil.disk_usage(place).free
    if needed > free:
        expected = f"disk must have room for the checkpoints, {needed / 1e9:.1f} GB"
        step = "free space, choose another --output, or evaluate less often (evaluate_every)"
        got = f"{free / 1e9:.1f} GB free"
        raise FaultError(fault(str(folder.path), expected, got, step, code="output.full"))
