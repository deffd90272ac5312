"""Read a study file: its keys, what cannot be, and the files that it names."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from fairseq_vgs.configs import config_dir
from fairseq_vgs.files.faults import FaultError, fault, raise_any
from fairseq_vgs.files.spelling import nearest
from fairseq_vgs.files.yaml_files import load_yaml
from fairseq_vgs.metrics.abx import read_items
from fairseq_vgs.metrics.abx.plan import require_speakers
from fairseq_vgs.study.conflicts import conflicts
from fairseq_vgs.study.settings import StudySettings, with_embedded

NEXT_STEP = (
    "correct the study file (docs/study.md describes the keys; study.yaml in the folder that fairseq-vgs "
    "configs prints is an example)"
)


def read_settings(path: Path, *, quick: bool = False, pilot: bool = False) -> StudySettings:
    """Read a study file; with ``quick`` the settings below its key ``quick`` win, likewise with ``pilot``.

    Raises:
        FaultError: ``study.file`` or ``setting.value``.
    """
    try:
        content: Any = load_yaml(path)
        if not OmegaConf.is_dict(content):
            raise TypeError("no settings by name")
        _refuse_unknown(path, content)
        quick_settings = content.pop("quick", None) or {}
        schema = OmegaConf.structured(StudySettings)
        shortened: Any = OmegaConf.merge(schema, content, quick_settings)  # checked even if not used
        chosen = shortened if quick else OmegaConf.merge(schema, content)
        if OmegaConf.is_missing(chosen, "config_dir"):
            chosen.config_dir = str(_folder_of_primaries(path.parent, chosen))
        settings: Any = OmegaConf.to_object(chosen)
    except (OSError, UnicodeDecodeError, YAMLError, OmegaConfBaseException, TypeError) as error:
        reason = str(error).strip().replace("\n", "; ")
        found = fault(str(path), "must be a study file", reason, NEXT_STEP, code="study.file")
        raise FaultError(found) from error
    raise_any(
        fault(str(path), f"{name} must be {expected}", got, NEXT_STEP, code="setting.value")
        for name, expected, got in conflicts(settings)
    )
    if pilot:
        settings = replace(settings, split=settings.pilot.split, seeds=list(settings.pilot.seeds))
    return settings


def _folder_of_primaries(folder: Path, chosen: Any) -> Path:
    """Return a folder if it has one of the primaries, else that of the package."""
    names = {*chosen.scenarios, *(str(entry.scenario) for entry in chosen.arms.values())}
    return folder if any((folder / f"{name}.yaml").is_file() for name in names) else config_dir()


def _refuse_unknown(path: Path, content: Any) -> None:
    """Refuse keys that a study file does not have, naming those that it has."""
    known = [field.name for field in fields(StudySettings)]
    quick = content.get("quick")
    quick_keys = [f"quick.{key}" for key in quick] if OmegaConf.is_dict(quick) else []
    found = []
    for key in [*map(str, content), *quick_keys]:
        name = key.removeprefix("quick.")
        if name in known or key == "quick":
            continue
        near = nearest(name, known)
        step = f"{f'write {near}' if near else 'remove it'}; docs/study.md describes them"
        expected = f"keys must be of {', '.join(known)}, quick"
        found.append(fault(str(path), expected, key, step, code="study.file"))
    raise_any(found)


def require_files(settings: StudySettings, path: Path) -> None:
    """Refuse settings of a study file ``path`` whose files are missing before training starts.

    Raises:
        FaultError: ``file.missing`` for a primary, the data or the ABX items.
        AbxError: the items cannot be compared within or across speakers as set.
    """
    arms = [settings.arm(name) for name in settings.names]
    primaries = {arm.scenario for arm in [*arms, *(settings.arm(arm.first) for arm in arms if arm.first)]}
    needed = [("config_dir", Path(settings.config_dir) / f"{name}.yaml") for name in primaries]
    items = None if settings.abx_folder is None else settings.abx_folder / settings.abx_items
    if items is not None:
        needed.append(("abx", items))
    for name, folder in (("data", settings.data), ("lexical", settings.lexical)):
        if folder is not None and "{output}" not in folder:  # what lies there, prepare makes
            needed.append((name, Path(with_embedded(folder))))
    step = f"{NEXT_STEP}; paths are relative to the working directory"
    raise_any(
        fault(str(path), f"{name} must name an existing file", f"none at {file}", step, code="file.missing")
        for name, file in sorted(needed)
        if not file.exists()
    )
    if items is not None:
        require_speakers(read_items(items), settings.abx_speakers, place=str(items))
