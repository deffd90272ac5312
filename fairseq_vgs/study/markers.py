"""What a study has started and finished: marker files, and whether it started with the same settings."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fairseq_vgs.evaluation.results import manifest_hashes
from fairseq_vgs.files.atomic import write_text
from fairseq_vgs.files.faults import Fault, FaultError
from fairseq_vgs.files.provenance import sha256_file
from fairseq_vgs.files.texts import read_object
from fairseq_vgs.files.work import differences
from fairseq_vgs.launch.command import command_identity
from fairseq_vgs.study import launch
from fairseq_vgs.study.plan import PhaseRun, StudyFolder
from fairseq_vgs.study.settings import StudySettings

# paths, devices and the number of updates; "start" says which checkpoint a run starts from
_MAY_DIFFER = {"common.cpu", "common.user_dir", "hydra.run.dir"}
_MAY_DIFFER |= {"checkpoint.finetune_from_model", "optimization.max_update"}
_HASH = "SHA-256 of "
_STEPS = "restore the settings, remove the folders, or choose another --output"


class StudyError(FaultError):
    """A study cannot start, or part of it failed."""


def training_data(settings: StudySettings, folder: StudyFolder) -> dict[str, str]:
    """Return the hashes of the tables that training reads; none if the data folder is missing."""
    return _named(manifest_hashes(folder.data(settings.data), "train", "valid"))


def measured_on(settings: StudySettings, folder: StudyFolder) -> dict[str, str]:
    """Return what checkpoints are measured on: settings, and hashes of the files that exist."""
    chosen = settings.as_json()
    named = {name: str(chosen[name]) for name in chosen if name.startswith(("split", "abx"))}
    hashes = manifest_hashes(folder.data(settings.data), settings.split)
    if settings.lexical is not None:  # studies without it keep the marks that they have
        named |= {name: str(chosen[name]) for name in ("lexical", "lexical_split")}
        words = manifest_hashes(folder.data(settings.lexical), settings.lexical_split)
        hashes |= {f"lexical {name}": digest for name, digest in words.items()}
    if settings.abx_folder is not None and (items := settings.abx_folder / settings.abx_items).is_file():
        hashes[items.name] = sha256_file(items)
    return {**named, **_named(hashes)}


def run_identity(
    command: Sequence[str], run: PhaseRun, settings: StudySettings, data: Mapping[str, str]
) -> dict[str, str]:
    """Return what makes a run what it is: its ``training_command``, start and ``training_data``."""
    return {
        **command_identity(command),
        "task.data": settings.data,  # as in the study file, since the study's folder may be moved
        "prepare": shlex.join(settings.prepare),
        "start": "random weights" if run.start is None else f"{run.start} after {run.start_update} updates",
        **data,
    }


def refuse_other_settings(
    runs: Sequence[PhaseRun], settings: StudySettings, folder: StudyFolder, data: Mapping[str, str]
) -> None:
    """Refuse to continue runs with settings other than those they started with.

    A run without a checkpoint may start again with other settings. The number of updates may differ: a base
    that has only served as a first phase is trained to its end when its scenario joins the study.

    Raises:
        StudyError: ``study.settings`` for every run with other settings or ``training_data``,
            ``study.prepare`` for data that was prepared differently.
    """
    faults = _other_preparation(settings, folder)
    for run in runs:
        place = folder.run(run.name)
        if not place.trained.exists() and not any((place.run / "checkpoints").glob("checkpoint*.pt")):
            continue
        command = launch.training_command(
            run, settings, data=folder.data(settings.data), folder=place, start=None
        )
        now = run_identity(command, run, settings, data)
        if different := _differences(_read(place.command), now):
            message = f"started with other settings ({different}); {_STEPS}"
            faults.append(Fault(str(place.path), message, "study.settings"))
    if faults:
        raise StudyError(faults)


def refuse_other_measurement(runs: Sequence[PhaseRun], settings: StudySettings, folder: StudyFolder) -> None:
    """Refuse settings that would measure the checkpoints on other data.

    Raises:
        StudyError: ``study.measurement`` for every run that was evaluated differently.
    """
    now = measured_on(settings, folder)
    step = "restore the settings, or run the study without --report-only, which measures again"
    faults = []
    for path in (folder.run(run.name).evaluated for run in runs):
        if path.exists() and (different := _differences(_read(path).get("on"), now)):
            message = f"measured on something else ({different}); {step}"
            faults.append(Fault(str(path), message, "study.measurement"))
    if faults:
        raise StudyError(faults)


def mark(path: Path, run: PhaseRun, *, on: object = "") -> None:
    """Mark a stage of a run as done, with its updates and what it was measured ``on``."""
    content = {"at": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "updates": run.max_update, "on": on}
    write_text(path, json.dumps(content) + "\n", force=True)


def is_marked(path: Path, run: PhaseRun, *, on: object = "") -> bool:
    """Whether a stage is done with all planned updates and ``on`` the same data."""
    content = _read(path)
    enough: bool = content.get("updates", run.max_update) >= run.max_update
    return path.exists() and enough and content.get("on", "") == on


def _other_preparation(settings: StudySettings, folder: StudyFolder) -> list[Fault]:
    """Say whether existing data was made with other arguments, even if no run has started."""
    before = _read(folder.settings)
    arguments = {"prepare": (settings.data, settings.prepare)}
    if settings.lexical is not None:
        arguments["prepare_lexical"] = (settings.lexical, settings.prepare_lexical)
    faults = []
    for key, (template, now) in arguments.items():
        data, earlier = folder.data(template), before.get(key, [])
        if data.exists() and folder.settings.exists() and earlier != now:
            different = f"{shlex.join(earlier)!r} before, {shlex.join(now)!r} now"
            faults.append(Fault(str(data), f"made with {key} {different}; {_STEPS}", "study.prepare"))
    return faults


def _differences(before: Any, now: Mapping[str, str]) -> str:
    """Say what differs; files that no longer exist are ignored."""
    known: Mapping[str, str] = before if isinstance(before, dict) else {}
    gone = {key for key in known if key.startswith(_HASH) and key not in now}
    return differences(known, now, passed_over=_MAY_DIFFER | gone)


def _named(hashes: Mapping[str, str]) -> dict[str, str]:
    return {f"{_HASH}{name}": digest for name, digest in hashes.items()}


def _read(path: Path) -> dict[str, Any]:
    """Read one of a study's small files; a missing one is empty."""
    step = "restore it from a copy, or remove the run's folder (study.json, evaluated: the file)"
    return read_object(path, step, error=StudyError) if path.exists() else {}
