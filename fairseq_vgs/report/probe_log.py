"""Reading the cooperation probes of a run (``probes.jsonl``, one JSON line per probe)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairseq_vgs.report.training_log import TrainingLogError

_COLUMNS = ("gradient_cosine", "gradient_norm_ssl", "gradient_norm_vgs", "cka")


@dataclass(frozen=True)
class ProbeRecord:
    """One probe; numbers by layer, NaN where there is none.

    Attributes:
        update: number of updates done.
        gradient_cosine: cosine between the gradients of the SSL and the VGS loss, by group of shared
            parameters: ``extractor``, ``input``, ``layer_1``.., and ``shared``, all of them together.
        gradient_norm_ssl: length of the SSL loss's gradient, nats per unit of the parameters.
        gradient_norm_vgs: length of the VGS loss's gradient.
        cka: linear CKA between the frames at the start of the phase and now, by ``extractor``, ``layer_1``..;
            empty for a run that was begun without probes.
    """

    update: int
    gradient_cosine: Mapping[str, float]
    gradient_norm_ssl: Mapping[str, float]
    gradient_norm_vgs: Mapping[str, float]
    cka: Mapping[str, float]


def read_probes(path: Path) -> list[ProbeRecord]:
    """Read a run's probes in the order of updates; lines that a kill cut off are passed over.

    A resumed run goes on in the same file from an earlier update: what was written beyond that point before
    counts no more.

    Raises:
        TrainingLogError: the file is missing or holds no probe.
    """
    records: dict[int, ProbeRecord] = {}
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise TrainingLogError(
            f"{path}: probes must be readable, got {error.strerror}; check the path"
        ) from error
    for line in lines:
        record = _record(line)
        if record is not None:
            records = {update: old for update, old in records.items() if update < record.update}
            records[record.update] = record
    if not records:
        raise TrainingLogError(
            f"{path}: must hold at least one probe, got none; train with task.probe_interval=N"
        )
    return list(records.values())


def _record(line: str) -> ProbeRecord | None:
    try:
        values = json.loads(line)
    except ValueError:
        return None
    if not isinstance(values, dict) or not isinstance(values.get("update"), int):
        return None
    return ProbeRecord(values["update"], *(_numbers(values.get(column)) for column in _COLUMNS))


def _numbers(values: Any) -> dict[str, float]:
    if not isinstance(values, dict):
        return {}
    numbers = {name: math.nan if value is None else value for name, value in values.items()}
    return {name: float(value) for name, value in numbers.items() if isinstance(value, int | float)}
