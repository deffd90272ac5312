"""What a study has begun and finished before: marks, and whether it was begun with the same settings."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

from fairseq_vgs.manifest.atomic import atomic_write
from fairseq_vgs.study import launch
from fairseq_vgs.study.layout import StudyFolder
from fairseq_vgs.study.plan import PhaseRun
from fairseq_vgs.study.settings import StudySettings

# where a study lies, on what it runs, and how far its runs go
_MAY_DIFFER = {
    "common.cpu",
    "common.user_dir",
    "hydra.run.dir",
    "checkpoint.finetune_from_model",
    "optimization.max_update",
}


class StudyError(RuntimeError):
    """A study cannot start, or a part of it failed."""


def refuse_other_settings(runs: Sequence[PhaseRun], settings: StudySettings, folder: StudyFolder) -> None:
    """Hold what was begun, or finished, against what would be run now.

    A run that has not saved a checkpoint yet may begin anew with other settings. Updates may differ: a
    base that was only left so far is trained to its end when its scenario joins the study.

    Raises:
        StudyError: other settings, for every run that has them.
    """
    data = folder.data(settings.data).resolve()
    problems = []
    for run in runs:
        run_folder = folder.run(run.name)
        if not run_folder.command.exists() or not any(
            (run_folder.run / "checkpoints").glob("checkpoint*.pt")
        ):
            continue
        command = launch.training_command(run, settings, data=data, folder=run_folder, start=None)
        begun, now = json.loads(run_folder.command.read_text("utf-8")), launch.command_identity(command)
        different = [
            f"{key}: {begun.get(key)} before, {now.get(key)} now"
            for key in sorted({*begun, *now} - _MAY_DIFFER)
            if begun.get(key) != now.get(key)
        ]
        if different:
            problems.append(f"{run_folder.path}: begun with other settings ({'; '.join(different)})")
    if problems:
        problems.append("restore the settings, remove the folders, or choose another --output")
        raise StudyError("\n".join(problems))


def mark(path: Path, run: PhaseRun, *, on: str = "") -> None:
    """Write that a run has come this far, with how many updates, and measured ``on`` what."""
    with atomic_write(path, force=True) as file:
        content = {"at": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "updates": run.max_update, "on": on}
        file.write(json.dumps(content) + "\n")


def is_marked(path: Path, run: PhaseRun, *, on: str = "") -> bool:
    """Whether a run has come this far with all the updates that it is to make, ``on`` the same as now."""
    if not path.exists():
        return False
    content = json.loads(path.read_text("utf-8"))
    enough: bool = content.get("updates", run.max_update) >= run.max_update
    return enough and content.get("on", "") == on
