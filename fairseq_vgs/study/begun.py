"""What a study has begun and finished so far: marks, and whether it was begun with the same settings."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fairseq_vgs.evaluation.results import manifest_hashes
from fairseq_vgs.files.atomic import atomic_write
from fairseq_vgs.files.faults import Fault, FaultError
from fairseq_vgs.files.provenance import sha256_file
from fairseq_vgs.files.work import differences
from fairseq_vgs.study import launch
from fairseq_vgs.study.plan import PhaseRun, StudyFolder
from fairseq_vgs.study.settings import StudySettings

# where a study lies, on what it runs, and how far its runs go; "start" says which checkpoint it starts from
_MAY_DIFFER = {
    "common.cpu",
    "common.user_dir",
    "hydra.run.dir",
    "checkpoint.finetune_from_model",
    "optimization.max_update",
}
_HASH = "SHA-256 of "
_STEPS = "restore the settings, remove the folders, or choose another --output"


class StudyError(FaultError):
    """A study cannot start, or a part of it failed."""


def training_data(settings: StudySettings, folder: StudyFolder) -> dict[str, str]:
    """Return the hashes of the manifest files that training reads; without the data, none."""
    return _named(manifest_hashes(folder.data(settings.data), "train", "valid"))


def measured_on(settings: StudySettings, folder: StudyFolder) -> dict[str, str]:
    """Return on what checkpoints are measured: settings, and hashes of the files that are there."""
    chosen = settings.as_json()
    named = {name: str(chosen[name]) for name in chosen if name.startswith(("split", "abx"))}
    hashes = manifest_hashes(folder.data(settings.data), settings.split)
    if settings.abx is not None and (items := Path(settings.abx) / settings.abx_items).is_file():
        hashes[items.name] = sha256_file(items)
    return {**named, **_named(hashes)}


def run_identity(
    command: Sequence[str], run: PhaseRun, settings: StudySettings, data: Mapping[str, str]
) -> dict[str, str]:
    """Return what makes a run what it is: its command, what it starts from, and its data.

    Args:
        command: What `launch.training_command` returned.
        run: Run whose command it is.
        settings: Settings of the study.
        data: What `training_data` returned.
    """
    return {
        **launch.command_identity(command),
        "task.data": settings.data,  # as the study file has it: the study's folder may be moved
        "prepare": shlex.join(settings.prepare),
        "start": "random weights" if run.start is None else f"{run.start} after {run.start_update} updates",
        **data,
    }


def refuse_other_settings(
    runs: Sequence[PhaseRun], settings: StudySettings, folder: StudyFolder, data: Mapping[str, str]
) -> None:
    """Compare what was begun or finished with what would be run now.

    A run that has not saved a checkpoint yet may start again with other settings. Updates may differ: a
    base that was only left so far is trained to its end when its scenario joins the study.

    Args:
        runs: Runs that are planned now.
        settings: Settings as they are now.
        folder: Folder of the study.
        data: What `training_data` returned.

    Raises:
        StudyError: ``study.settings`` for every run with other settings or data, ``study.prepare`` for data
            that were prepared otherwise.
    """
    faults = _other_preparation(settings, folder)
    for run in runs:
        run_folder = folder.run(run.name)
        if not run_folder.trained.exists() and not any(
            (run_folder.run / "checkpoints").glob("checkpoint*.pt")
        ):
            continue
        command = launch.training_command(
            run, settings, data=folder.data(settings.data), folder=run_folder, start=None
        )
        now = run_identity(command, run, settings, data)
        if different := _differences(_read(run_folder.command), now):
            message = f"begun with other settings ({different}); {_STEPS}"
            faults.append(Fault(str(run_folder.path), message, "study.settings"))
    if faults:
        raise StudyError(faults)


def refuse_other_measurement(runs: Sequence[PhaseRun], settings: StudySettings, folder: StudyFolder) -> None:
    """Refuse settings under which the checkpoints would be measured on something else.

    Raises:
        StudyError: ``study.measurement`` for every run that was evaluated otherwise.
    """
    now = measured_on(settings, folder)
    step = "restore the settings, or run the study without --report-only, which measures again"
    faults = []
    for run in runs:
        path = folder.run(run.name).evaluated
        if path.exists() and (different := _differences(_read(path).get("on"), now)):
            message = f"measured on something else ({different}); {step}"
            faults.append(Fault(str(path), message, "study.measurement"))
    if faults:
        raise StudyError(faults)


def mark(path: Path, run: PhaseRun, *, on: object = "") -> None:
    """Write that a run has come this far, with how many updates, and measured ``on`` what."""
    with atomic_write(path, force=True) as file:
        content = {"at": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "updates": run.max_update, "on": on}
        file.write(json.dumps(content) + "\n")


def is_marked(path: Path, run: PhaseRun, *, on: object = "") -> bool:
    """Whether a run has come this far with all the updates that it is to make, ``on`` the same as now."""
    if not path.exists():
        return False
    content = _read(path)
    enough: bool = content.get("updates", run.max_update) >= run.max_update
    return enough and content.get("on", "") == on


def _other_preparation(settings: StudySettings, folder: StudyFolder) -> list[Fault]:
    """Say whether the data that is there was made by other arguments, before any run has begun, too."""
    data = folder.data(settings.data)
    if not data.exists() or not folder.settings.exists():
        return []
    before = _read(folder.settings).get("prepare", [])
    if before == settings.prepare:
        return []
    different = f"{shlex.join(before)!r} before, {shlex.join(settings.prepare)!r} now"
    return [Fault(str(data), f"made with prepare {different}; {_STEPS}", "study.prepare")]


def _differences(before: Any, now: Mapping[str, str]) -> str:
    """Say what differs; files that are not there now are not held against those that were."""
    known: Mapping[str, str] = before if isinstance(before, dict) else {}
    gone = {key for key in known if key.startswith(_HASH) and key not in now}
    return differences(known, now, passed_over=_MAY_DIFFER | gone)


def _named(hashes: Mapping[str, str]) -> dict[str, str]:
    return {f"{_HASH}{name}": digest for name, digest in hashes.items()}


def _read(path: Path) -> dict[str, Any]:
    """Read one of a study's small files; one that is missing says nothing."""
    return dict(json.loads(path.read_text("utf-8"))) if path.exists() else {}
