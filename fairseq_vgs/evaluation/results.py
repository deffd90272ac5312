"""Result files: ``metrics.json`` and one CSV row per item, written whole or not at all.

``metrics.json`` says what was measured (values with n, chance and interval), on what (hashes of checkpoint
and manifest, pool sizes), and with what (seed, command, versions, machine).
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fairseq_vgs.evaluation.metrics.bootstrap import Interval
from fairseq_vgs.files.atomic import atomic_write
from fairseq_vgs.files.provenance import machine, sha256_file, versions
from fairseq_vgs.manifest.folder import ManifestFolder

SCHEMA_VERSION = 1
METRICS_NAME = "metrics.json"
ALWAYS = "k >= pool: always 100 %"
"""Note on a recall that says nothing: every order of so small a pool reaches it."""


class ResultsError(ValueError):
    """A result file is missing, broken, or of another schema."""


@dataclass(frozen=True)
class Metric:
    """One measured number.

    Attributes:
        value: the estimate with its confidence interval.
        n: number of queries.
        chance: what a random order scores; None where there is no such thing (a difference).
        unit: "%", "rank" or "" (a ratio in 0..1).
        level: confidence level of the interval.
    """

    value: Interval
    n: int
    chance: float | None
    unit: str
    level: float = 0.95

    @property
    def is_certain(self) -> bool:
        """A recall of 100 % in any order: the top k hold all of the pool, or all of its wrong answers."""
        return self.unit == "%" and self.chance is not None and self.chance >= 100.0

    def as_json(self) -> dict[str, Any]:
        """Return plain data; NaN becomes null. A recall that is certain has a note."""
        interval = {"level": self.level, "low": _number(self.value.low), "high": _number(self.value.high)}
        return {
            "value": _number(self.value.value),
            "unit": self.unit,
            "n": self.n,
            "chance": None if self.chance is None else _number(self.chance),
            "interval": {**interval, "method": self.value.method},
            **({"note": ALWAYS} if self.is_certain else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Metric:
        """Read what `as_json` gave."""
        interval = data["interval"]
        value = Interval(
            _float(data["value"]), _float(interval["low"]), _float(interval["high"]), interval["method"]
        )
        return cls(value, int(data["n"]), data["chance"], data["unit"], interval["level"])


@dataclass(frozen=True)
class Provenance:
    """Where a result comes from: what is needed to repeat it, and to see whether two are comparable."""

    command: str
    seed: int
    manifest: Mapping[str, str]
    versions: Mapping[str, str]
    machine: Mapping[str, Any]
    created: str

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def provenance(*, command: str, seed: int, folder: Path, split: str) -> Provenance:
    """Collect the provenance of a measurement on one split of a manifest folder."""
    return Provenance(
        command=command,
        seed=seed,
        manifest=manifest_hashes(folder, split),
        versions=versions(),
        machine=machine(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def manifest_hashes(folder: Path, *splits: str) -> dict[str, str]:
    """Hash the files of a manifest folder that splits read, by file name; absent ones are left out."""
    manifest = ManifestFolder(folder)
    paths = (
        *(path for split in splits for path in (manifest.audio_list(split), manifest.pairs(split))),
        manifest.images,
        manifest.regions,
        manifest.region_features,
    )
    return {path.name: sha256_file(path) for path in paths if path.is_file()}


def as_written(content: Mapping[str, Any]) -> str:
    """Return the text of ``metrics.json`` without its last newline; the schema version is added."""
    return json.dumps(
        {"schema_version": SCHEMA_VERSION, **content}, indent=2, ensure_ascii=False, allow_nan=False
    )


def write_metrics(path: Path, content: Mapping[str, Any], *, force: bool = False) -> str:
    """Write ``metrics.json``, and return what was written as `as_written` does."""
    text = as_written(content)
    with atomic_write(path, force=force) as file:
        file.write(text + "\n")
    return text


def read_metrics(path: Path, *, kind: str | None) -> dict[str, Any]:
    """Read ``metrics.json`` of one kind of evaluation, such as "retrieval"; of any kind if None.

    Raises:
        ResultsError: missing, not JSON, of another schema version or kind.
    """
    command = f"fairseq-vgs evaluate {kind or 'retrieval (or abx)'}"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ResultsError(f"{path}: result file must exist; run {command} first") from None
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path}: must be JSON, got {error}; run {command} again") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise ResultsError(
            f"{path}: schema_version must be {SCHEMA_VERSION}, got {version!r}; run {command} again"
        )
    if kind is not None and content.get("kind") != kind:
        raise ResultsError(
            f"{path}: kind must be {kind!r}, got {content.get('kind')!r}; give the right folder"
        )
    return dict(content)


def write_table(
    path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]], *, force: bool = False
) -> None:
    """Write a CSV file; floats in full precision, NaN as an empty field."""
    with atomic_write(path, force=force) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([_cell(value) for value in row] for row in rows)


def read_table(path: Path) -> list[dict[str, str]]:
    """Read a CSV file written by `write_table`.

    Raises:
        ResultsError: the file is missing.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        raise ResultsError(f"{path}: result file must exist; run the evaluation again") from None


def read_array(path: Path) -> npt.NDArray[Any]:
    """Read a ``.npy`` file.

    Raises:
        ResultsError: missing or not an array of numbers.
    """
    try:
        array: npt.NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ResultsError(
            f"{path}: must be an array of numbers, got {error}; run the evaluation again"
        ) from error
    return array


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _float(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _cell(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return "" if math.isnan(value) else repr(float(value))
    return value
