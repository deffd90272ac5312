"""Where a model is, and where its results go: looked at before anything heavy is imported."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from fairseq_vgs.files.faults import FaultError, fault

logger = logging.getLogger(__name__)

SHIPPED = Path(__file__).parent / "shipped"
"""Folder of the models that come with the package, which are called by their names."""
RESULTS = Path("results")
"""Folder, below the working directory, for results of models that nothing is written next to."""
_CHECKPOINTS = "checkpoints"
_NAMES = ("checkpoint_best.pt", "checkpoint_last.pt")
_SHARED_FOLDERS = ("site-packages", "dist-packages", ".cache")
EXPORTED_WEIGHTS, EXPORTED_CONFIG = "model.safetensors", "config.json"


def find_model(path: str | Path) -> Path:
    """Return a path, or the folder of the shipped model that it names.

    A file or folder of that name goes first, and a warning says so.
    """
    path = Path(path)
    if path.parts != (path.name,) or not is_export(SHIPPED / path):
        return path
    if not path.exists():
        return SHIPPED / path
    logger.warning("%s: using what is in this folder, not the model of that name in fairseq_vgs", path)
    return path


def is_export(path: Path) -> bool:
    """Return whether a path is a folder as Hugging Face has them, such as ``fairseq-vgs export`` writes."""
    return (path / EXPORTED_CONFIG).is_file() and (path / EXPORTED_WEIGHTS).is_file()


def find_checkpoint(path: Path) -> Path:
    """Return the checkpoint that a path leads to; of a run, the best one, else the last one.

    Of an exported folder, the file with its weights. What a run's folder leads to is said.

    Raises:
        FaultError: ``model.kind``: a folder without one.
    """
    if not path.is_dir() or is_export(path):
        return model_file(path)
    folders = (path / _CHECKPOINTS, path)
    found = next((folder / name for name in _NAMES for folder in folders if (folder / name).is_file()), None)
    if found is None:
        expected = f"must be a run's folder, with {_CHECKPOINTS}/{_NAMES[0]} or {_NAMES[1]}"
        step = "give hydra.run.dir of a training that has saved a checkpoint, or a checkpoint file"
        raise FaultError(fault(str(path), expected, "a folder without", step, code="model.kind"))
    logger.info("%s: using %s", path, found.name)
    return found


def refuse_export(path: Path) -> None:
    """Refuse an exported folder where a run or a checkpoint is needed.

    Raises:
        FaultError: ``checkpoint.kind``.
    """
    if is_export(path):
        expected, got = "must be a run or a checkpoint", "an exported folder"
        step = (
            f"make a checkpoint of it with fairseq-vgs import hub {path.name} {path.name}.pt, and give that"
        )
        raise FaultError(fault(str(path), expected, got, step, code="checkpoint.kind"))


def model_file(path: Path) -> Path:
    """Return the file with a model's weights: of an exported folder, that in it; else the path itself."""
    return path / EXPORTED_WEIGHTS if is_export(path) else path


def needs_fairseq(path: Path) -> bool:
    """Return whether the model in a file is loaded by fairseq."""
    return path.name != EXPORTED_WEIGHTS


def results_folder(model: Path, name: str, *, within: bool = False) -> tuple[Path, str]:
    """Choose where results of a model go unless the user does: next to it, or where nobody else writes.

    ``NAME`` next to a checkpoint or exported folder, or ``within`` a run folder. Where that place is
    read-only, another user's, or of installed packages or a cache, ``results/RUN-NAME`` below the working
    directory (of an exported folder, whose name is in NAME, ``results/NAME``), and a note that says so.

    Raises:
        FaultError: ``output.not_ours``, that folder below ``results`` holds results of another model.
    """
    parent = model if within else model.parent
    if not (reason := _why_not(parent)):
        return parent / name, ""
    folder = RESULTS / (name if is_export(model) else f"{_run_name(parent)}-{name}")
    _refuse_other(folder, model)
    return (
        folder,
        f"note: {parent.absolute()} {reason}: results go to {folder}; --output chooses another folder",
    )


def _why_not(folder: Path) -> str:
    """Return why nothing is to be written into a folder; nothing if it may, or is not there."""
    if folder.resolve() == SHIPPED.resolve():
        return "belongs to the package"
    try:
        owner = folder.stat().st_uid
    except OSError:
        return ""
    if shared := set(_SHARED_FOLDERS).intersection(folder.resolve().parts):
        return f"is shared ({', '.join(shared)})"
    if not os.access(folder, os.W_OK | os.X_OK):
        return "is read-only"
    return "" if owner == os.geteuid() else "belongs to another user"


def _run_name(folder: Path) -> str:
    """Name the run of a run folder or its folder of checkpoints; of another folder, itself."""
    folder = folder.absolute()
    return folder.parent.name if folder.name == _CHECKPOINTS else folder.name


def _refuse_other(folder: Path, model: Path) -> None:
    own = model.resolve()
    for path in _recorded_models(folder):
        if own not in (path, *path.parents):
            message = f"holds results of another model, {path}; choose another folder with --output"
            raise FaultError.at(folder, message, "output.not_ours")


def _recorded_models(folder: Path) -> Iterator[Path]:
    """Yield the checkpoints that results in a folder, or in those of a run's evaluations, are of."""
    for pattern in ("metrics.json", "*/*/metrics.json"):
        for file in folder.glob(pattern):
            with suppress(OSError, ValueError, KeyError, TypeError):
                content = json.loads(file.read_text(encoding="utf-8"))
                yield Path(content["checkpoint"]["path"]).resolve()
