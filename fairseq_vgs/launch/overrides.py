"""Overrides that a user gives to ``fairseq-vgs train``, as for ``fairseq-hydra-train``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from fairseq_vgs.files.faults import FaultError, fault
from fairseq_vgs.files.hydra import path_override, unquoted

_OVERRIDE = re.compile(r"(?P<sign>\+{0,2}|~)(?P<key>[\w.@/-]+)(?:=(?P<value>.*))?", re.DOTALL)
_PATHS = {"checkpoint.finetune_from_model", "checkpoint.restore_file", "model.image_backbone"}
_PATHS |= {"task.text_units", "task.unpaired_data"}
_OWN = {"task.data": "DATA", "hydra.run.dir": "--output"}


def user_overrides(words: Iterable[str]) -> dict[str, str]:
    """Return overrides by key (``~key`` for a removal), each as Hydra is to read it.

    Values stay as they are, but paths may begin with ``~`` and hold blanks: they get Hydra's quotes.

    Raises:
        FaultError: ``setting.value``: a word is no override; ``setting.conflict``: it has an option.
    """
    found = {}
    for word in words:
        parts = _OVERRIDE.fullmatch(word)
        if parts is None or (parts["value"] is None and parts["sign"] != "~"):
            expected, step = (
                "must be KEY=VALUE, as for fairseq-hydra-train",
                "correct it, or quote it for the shell",
            )
            raise FaultError(fault("KEY=VALUE", expected, word, step, code="setting.value"))
        key, value = parts["key"], parts["value"]
        if key in _OWN:
            expected, step = f"must be left to {_OWN[key]}", f"give {_OWN[key]} instead"
            raise FaultError(fault(key, expected, value, step, code="setting.conflict"))
        removes = parts["sign"] == "~"
        found[f"~{key}" if removes else key] = word if removes else f"{parts['sign']}{_with_path(key, value)}"
    return found


def value_of(override: str) -> str:
    """Return the value in an override, without quotes; "" where it has none."""
    return unquoted(override.partition("=")[2].strip())


def whole_number(override: str) -> int | None:
    """Return the value in an override if it is a whole number above 0, as Hydra reads them: 1e5, 1_000."""
    try:
        value = float(value_of(override))
    except ValueError:
        return None
    return int(value) if value.is_integer() and value > 0 else None


def refuse_interpolation(path: Path, option: str) -> None:
    """Refuse a path that configurations would fill in.

    Raises:
        FaultError: ``setting.value``.
    """
    if "${" in str(path):
        expected, step = "must not hold ${, which configurations fill in", "rename the folder"
        raise FaultError(fault(option, expected, str(path), step, code="setting.value"))


def _with_path(key: str, value: str) -> str:
    """Return KEY=VALUE; a path without Hydra's quotes, and not null, gets them and becomes absolute."""
    if key not in _PATHS or value in ("", "null") or value[0] in "'\"" or "${" in value:
        return f"{key}={value}"
    path = Path(value).expanduser()
    return path_override(key, path.absolute() if path.exists() else path)
