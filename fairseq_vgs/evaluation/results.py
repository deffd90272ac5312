"""Results of an evaluation: what models scored, item by item, and the folder that holds it.

```
metrics.json   values of all models with n, chance and intervals; paired differences; what was measured, on
               what (hashes) and with what (seed, command, versions, machine)
items.npz      values of every item, from which intervals and differences follow
```

Evaluators add tables (CSV) and arrays of their own. ``metrics.json`` is written last and holds the SHA-256
of ``items.npz``, so that files of two evaluations are told apart. ``evaluate run`` keeps one such folder per
checkpoint and evaluation.

Arrays of ``items.npz`` (``Q`` items; SET is what was measured, such as ``speech_to_image``):

```
SET/ids/COLUMN            str[Q]           names of the items
SET/units                 i64[Q] or [Q, 2] what is resampled: the item's image, word or two phones
SET/values/MODEL/METRIC   f64[Q]           in the unit of the metric
```

A model that was measured on other items than the first has a set of its own, ``SET@MODEL``.
"""

from __future__ import annotations

import csv
import json
import logging
import math
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from fairseq_vgs.arrays import F64, I64, np
from fairseq_vgs.files.atomic import atomic_write, write_text
from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.files.provenance import sha256_file
from fairseq_vgs.files.texts import read_object
from fairseq_vgs.metrics import intervals
from fairseq_vgs.metrics.intervals import Interval, Statistic
from fairseq_vgs.metrics.pools import within_pools

if TYPE_CHECKING:
    import numpy.typing as npt

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 2
_READABLE = (1, SCHEMA_VERSION)
METRICS_NAME, ITEMS_NAME = "metrics.json", "items.npz"
ALWAYS = "k >= pool: always 100 %"
"""Note on a recall that says nothing, since every order of so small a pool reaches it."""
CERTAIN = "always 100 (k >= pool)"  # shown instead of its value
POINTS = "percentage points"
_FORMULA = re.compile(r"[=+\-@\t\r](?![\d.]*\Z).", re.DOTALL)  # but a phone "-" and a number are none
_ITEMS_DIGEST = "items_sha256"
# what numpy raises for files that are cut, damaged, or something else
_UNREADABLE = (OSError, ValueError, EOFError, TypeError, RuntimeError, BadZipFile, zlib.error)


class ResultsError(FaultError):
    """A result file is missing, broken, or of another schema."""


class _Content(dict[str, Any]):
    """An object of a result file, which names the file for a key that it lacks: in templates, too."""

    def __init__(self, found: Mapping[str, Any], path: Path, command: str) -> None:
        super().__init__(found)
        self._path, self._command = path, command

    def __missing__(self, key: str) -> Any:
        message = f"must have the key {key!r}, got {', '.join(self) or 'none'}; {self._command} again"
        raise ResultsError.at(self._path, message, "results.broken")


@contextmanager
def written_by(command: str, path: Path) -> Iterator[None]:
    """Turn what a result lacks into a ``ResultsError`` that names the command to run again.

    Raises:
        ResultsError: ``results.broken``.
    """
    try:
        yield
    except ResultsError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        message = f"must be what {command} wrote, got {error!r}; run it again"
        raise ResultsError.at(path, message, "results.broken") from error


@dataclass(frozen=True)
class Metric:
    """One measured number: an estimate with its confidence interval, from ``n`` queries, cells or tokens.

    ``chance`` is what a random order scores; None for a difference. ``unit`` is "%", "percentage points",
    "rank" or "" (a ratio in 0..1). ``statistic`` is how it follows from the values of items.
    """

    value: Interval
    n: int
    chance: float | None
    unit: str
    level: float = intervals.LEVEL
    statistic: Statistic = "mean"

    def chance_text(self, form: str, missing: str = "-") -> str:
        """Return what a random order scores, for tables."""
        return missing if self.chance is None else f"{self.chance:{form}}"

    @property
    def is_certain(self) -> bool:
        """Whether any order scores 100 %, as the top k hold the pool or all of its wrong answers."""
        return self.unit == "%" and self.chance is not None and self.chance >= 100.0

    def as_json(self) -> dict[str, Any]:
        """Return plain data; NaN becomes null. A recall that is certain has a note."""
        bounds = {"level": self.level, "low": _number(self.value.low), "high": _number(self.value.high)}
        return {
            "value": _number(self.value.value),
            "unit": self.unit,
            "n": self.n,
            "chance": None if self.chance is None else _number(self.chance),
            "interval": {**bounds, "method": self.value.method},
            **({} if self.statistic == "mean" else {"statistic": self.statistic}),
            **({"note": ALWAYS} if self.is_certain else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Metric:
        """Read what ``as_json`` returned."""
        bounds = data["interval"]
        value, low, high = (_float(number) for number in (data["value"], bounds["low"], bounds["high"]))
        statistic, found = data.get("statistic", "mean"), Interval(value, low, high, bounds["method"])
        return cls(found, int(data["n"]), data["chance"], data["unit"], bounds["level"], statistic)

    def __str__(self) -> str:
        """Return the value with its interval, if any, or say that any order reaches it."""
        return CERTAIN if self.is_certain else self.shown()

    def shown(self, sign: str = "") -> str:
        """Return the value with its interval, if any; ``sign`` "+": with the sign of positive numbers."""
        found = self.value
        value, low, high = (self.rounded(number, sign) for number in (found.value, found.low, found.high))
        return value if math.isnan(found.low) else f"{value} [{low}, {high}]"

    def rounded(self, number: float, sign: str = "") -> str:
        """Return a number in the unit with as many decimals as tables show."""
        return f"{number:{sign}.{1 if self.unit else 3}f}"


@dataclass(frozen=True)
class Items:
    """What a model was measured on, and its values, item by item.

    Attributes:
        ids: Columns that name the items; the same for all models.
        units: int64[Q] or int64[Q, 2] what is resampled, see ``intervals``; ``resampled`` names it: "images".
        values: Metric -> f64[Q] in its unit.
        same_as: Digest of all that must be equal for a paired difference; of ids and units by default.
    """

    ids: Mapping[str, Sequence[str]]
    units: I64
    resampled: str
    values: Mapping[str, F64]
    same_as: str = ""

    def __post_init__(self) -> None:
        """Fill in the digest."""
        if not self.same_as:
            names = {column: [str(name) for name in found] for column, found in self.ids.items()}
            text = json.dumps([names, self.units.tolist()], sort_keys=True)
            object.__setattr__(self, "same_as", sha256(text.encode()).hexdigest())


@dataclass(frozen=True)
class Reported:
    """How a metric is reported, as in ``Metric``; ``n``: a count that says more than that of the items."""

    unit: str
    chance: float | None
    statistic: Statistic = "mean"
    n: int | None = None


@dataclass(frozen=True)
class Scores:
    """What one model scored.

    Attributes:
        items: Name of a set of items -> the items with values of some of the metrics.
        metrics: Metric -> how it is reported, in the order of tables.
        facts: What was measured, as JSON, the same for all models; ``details``: counts and cost of this one.
        notes: What a reader must know, one line each.
        extra: What the evaluator needs to write its own files.
    """

    items: Mapping[str, Items]
    metrics: Mapping[str, Reported]
    facts: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    extra: Any = None

    def estimates(self, *, seed: int) -> dict[str, Metric]:
        """Return all metrics with their intervals."""
        found = {}
        for name, reported in self.metrics.items():
            items = next(items for items in self.items.values() if name in items.values)
            value = intervals.interval(
                items.values[name],
                items.units,
                seed=seed,
                statistic=reported.statistic,
                resampled=items.resampled,
            )
            n = len(items.units) if reported.n is None else reported.n
            found[name] = Metric(value, n, reported.chance, reported.unit, statistic=reported.statistic)
        return found


def differences(
    own: Mapping[str, Items],
    other: Mapping[str, Items],
    metrics: Mapping[str, Metric],
    *,
    seed: int,
    one_for_all: bool = False,
) -> dict[str, Metric] | None:
    """Return own minus other of the model's metrics, on the same resampled units; None without shared items.

    Metrics whose items differ, or that only one has, are left out. ``one_for_all`` subtracts a baseline of a
    single metric (MFCC) from all metrics of that set.
    """
    found, shared = {}, False
    for name, items in own.items():
        theirs = other.get(name)
        if theirs is None or theirs.same_as != items.same_as:
            continue
        shared = True
        only = next(iter(theirs.values.values())) if one_for_all and len(theirs.values) == 1 else None
        for metric in (metric for metric in metrics if metric in items.values):
            values = theirs.values.get(metric, only)
            if values is None:
                continue
            like = metrics[metric]
            value = intervals.difference(
                items.values[metric],
                values,
                items.units,
                seed=seed,
                statistic=like.statistic,
                resampled=items.resampled,
            )
            found[metric] = Metric(value, like.n, None, POINTS if like.unit == "%" else like.unit)
    return {metric: found[metric] for metric in metrics if metric in found} if shared else None


@dataclass(frozen=True)
class Result:
    """A results folder: metrics.json, and items where they do not come from ``items.npz`` next to it."""

    content: Mapping[str, Any]
    path: Path
    computed: Mapping[str, Mapping[str, Items]] | None = None

    @property
    def kind(self) -> str:
        """Name of the evaluator."""
        return str(self.content["kind"])

    @cached_property
    def models(self) -> Mapping[str, dict[str, Metric]]:
        """Name of a model -> metric -> value; the evaluated model comes first."""
        command = f"run fairseq-vgs evaluate {self.content.get('kind')}"
        found = {}
        for name, model in self.content["models"].items():
            metrics = {metric: Metric.from_json(data) for metric, data in model["metrics"].items()}
            found[name] = _Content(metrics, self.path, command)
        return found

    @property
    def evaluated(self) -> str:
        """Name of the evaluated model; all others are baselines."""
        return next(iter(self.content["models"]))

    @cached_property
    def items(self) -> Mapping[str, Mapping[str, Items]]:
        """Model -> set -> items.

        Raises:
            ResultsError: ``items.npz`` is missing, broken, or of another evaluation than metrics.json.
        """
        if self.computed is not None:
            return self.computed
        path, digest = self.path.with_name(ITEMS_NAME), self.content.get(_ITEMS_DIGEST)
        if digest is not None and path.is_file() and sha256_file(path) != digest:
            message = (
                f"must be written together with {METRICS_NAME}, got items of another evaluation, or damaged"
            )
            step = f"run fairseq-vgs evaluate {self.kind} again"
            raise ResultsError.at(path, f"{message}; {step}", "results.mismatch")
        return read_items(path)


def result_files(folder: Path, names: Sequence[str]) -> list[Path]:
    """List the files of a results folder, with those of its evaluator."""
    return [folder / name for name in (METRICS_NAME, ITEMS_NAME, *names)]


def write_result(
    folder: Path, content: Mapping[str, Any], items: Mapping[str, Mapping[str, Items]], *, force: bool = False
) -> dict[str, Any]:
    """Write ``items.npz``, then ``metrics.json`` with its SHA-256; return what the latter holds.

    Items are model -> set -> items; the first model's are the common ones.
    """
    with atomic_write(folder / ITEMS_NAME, force=force, mode="wb") as file:
        np.savez_compressed(file, allow_pickle=False, **_arrays(items))
    bound = {**content, _ITEMS_DIGEST: sha256_file(folder / ITEMS_NAME)}
    write_metrics(folder / METRICS_NAME, bound, force=force)
    return bound


def read_result(path: Path, *, kind: str | None = None) -> Result:
    """Read a results folder or its metrics.json; items are read when needed.

    Raises:
        ResultsError: Missing or broken.
    """
    path = path if path.name == METRICS_NAME else path / METRICS_NAME
    content = read_metrics(path, kind=kind)
    with written_by(f"fairseq-vgs evaluate {content.get('kind')}", path):
        if "folds" in content and "models" in content["folds"]:  # as written before recalls had one place
            content["models"] = _with_folds(content)
        found = Result(content, path)
        if not found.models:
            raise KeyError("models")
        _ = content["kind"], content["provenance"]["manifest"]
    return found


def read_items(path: Path) -> dict[str, dict[str, Items]]:
    """Read ``items.npz``: model -> set -> items.

    Raises:
        ResultsError: Missing or broken.
    """
    if not path.exists():
        message = "must be next to metrics.json (older versions wrote none); run the evaluation again"
        raise ResultsError.at(path, message, "results.items_missing")
    arrays = load_arrays(path, "run the evaluation again")
    with written_by("an evaluation", path):
        return _items(arrays)


def load_arrays(path: Path, next_step: str) -> dict[str, npt.NDArray[Any]]:
    """Read a ``.npz`` file; nothing in it is run.

    Raises:
        ResultsError: Missing or broken.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except _UNREADABLE as error:
        message = f"must be arrays that an evaluation wrote, got {error}; {next_step}"
        raise ResultsError.at(path, message, "results.broken") from error


def manifest_hashes(folder: Path, *splits: str) -> dict[str, str]:
    """Hash the files of a data folder that splits read, by file name; missing ones are left out."""
    from fairseq_vgs.manifest.folder import ManifestFolder

    manifest = ManifestFolder(folder)
    paths = [path for split in splits for path in (manifest.audio_list(split), manifest.pairs(split))]
    paths += [manifest.images, manifest.regions, manifest.region_features]
    return {path.name: sha256_file(path) for path in paths if path.is_file()}


def as_written(content: Mapping[str, Any]) -> str:
    """Return the text of ``metrics.json`` without its last newline; the schema version is added."""
    content = {"schema_version": SCHEMA_VERSION, **content}
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)


def write_metrics(path: Path, content: Mapping[str, Any], *, force: bool = False) -> None:
    """Write ``metrics.json``."""
    write_text(path, as_written(content) + "\n", force=force)


def read_metrics(path: Path, *, kind: str | None) -> dict[str, Any]:
    """Read ``metrics.json`` of one kind of evaluation, such as "retrieval"; of any kind if None.

    Raises:
        ResultsError: Missing, not JSON, of another schema version or kind.
    """
    command = f"fairseq-vgs evaluate {kind or 'NAME'}"
    content = read_json(path, command=f"run {command}")
    if kind is not None and content.get("kind") != kind:
        message = f"kind must be {kind!r}, got {content.get('kind')!r}; give the right folder"
        raise ResultsError.at(path, message, "results.kind")
    return content


def read_json(path: Path, *, command: str) -> dict[str, Any]:
    """Read a JSON file of this schema version or an older one; ``command`` makes it.

    Raises:
        ResultsError: Missing, not JSON, or of another schema version.
    """
    content = read_object(
        path, command, error=ResultsError, object_hook=lambda found: _Content(found, path, command)
    )
    version = content.get("schema_version")
    if version not in _READABLE:
        known = " or ".join(map(str, _READABLE))
        message = f"schema_version must be {known}, got {version!r}; {command} again"
        raise ResultsError.at(path, message, "results.schema_version")
    return _Content(content, path, command)


def write_table(
    path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]], *, force: bool = False
) -> None:
    """Write a CSV file; floats in full precision, NaN as an empty field.

    Names are written as they are, since programs find recordings by them; a spreadsheet program may take one
    for a formula: this is logged as a warning.
    """
    formulas: list[str] = []
    with atomic_write(path, force=force) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for row in rows:
            formulas += (value for value in row if isinstance(value, str) and _FORMULA.match(value))
            writer.writerow([_cell(value) for value in row])
    if formulas:
        logger.warning(
            "%s: %d cells begin like a formula, the first is %r: import them as text into spreadsheets",
            path,
            len(formulas),
            formulas[0],
        )


def read_table(path: Path) -> list[dict[str, str]]:
    """Read a CSV file written by ``write_table``.

    Raises:
        ResultsError: The file is missing.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        message = "result file must exist; run the evaluation again"
        raise ResultsError.at(path, message, "file.missing") from None


def read_array(path: Path) -> npt.NDArray[Any]:
    """Read a ``.npy`` file.

    Raises:
        ResultsError: Missing or not an array of numbers.
    """
    try:
        with path.open("rb") as file:
            array: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    except _UNREADABLE as error:
        message = f"must be an array of numbers, got {error}; run the evaluation again"
        raise ResultsError.at(path, message, "results.broken") from error
    return array


def _with_folds(content: Mapping[str, Any]) -> dict[str, Any]:
    folds, within = content["folds"], within_pools(content["folds"])
    models = {}
    for name, model in content["models"].items():
        own = {f"{metric}{within}": data for metric, data in folds["models"][name]["metrics"].items()}
        models[name] = {**model, "metrics": {**model["metrics"], **own}}
    return models


def _arrays(items: Mapping[str, Mapping[str, Items]]) -> dict[str, npt.NDArray[Any]]:
    arrays: dict[str, npt.NDArray[Any]] = {}
    digests: dict[str, str] = {}
    for model, sets in items.items():
        for name, found in sets.items():
            home = name if digests.setdefault(name, found.same_as) == found.same_as else f"{name}@{model}"
            if f"{home}/units" not in arrays:
                arrays |= {f"{home}/ids/{column}": np.array(ids) for column, ids in found.ids.items()}
                arrays[f"{home}/units"] = found.units
                arrays[f"{home}/resampled"] = np.array(found.resampled)
                arrays[f"{home}/same_as"] = np.array(found.same_as)
            arrays |= {f"{home}/values/{model}/{metric}": v for metric, v in found.values.items()}
    return arrays


def _items(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, dict[str, Items]]:
    models: dict[str, dict[str, Items]] = {}
    for key, values in arrays.items():
        home, part, *names = key.split("/", 3)
        if part != "values":
            continue
        (model, metric), name = names, home.partition("@")[0]
        sets = models.setdefault(model, {})
        if name not in sets:
            prefix = f"{home}/ids/"
            sets[name] = Items(
                ids={k.removeprefix(prefix): v.tolist() for k, v in arrays.items() if k.startswith(prefix)},
                units=arrays[f"{home}/units"],
                resampled=str(arrays[f"{home}/resampled"]),
                values={},
                same_as=str(arrays[f"{home}/same_as"]),
            )
        sets[name] = replace(sets[name], values={**sets[name].values, metric: values})
    return models


def metrics_json(metrics: Mapping[str, Metric]) -> dict[str, Any]:
    """Return metrics by name as plain data."""
    return {name: metric.as_json() for name, metric in metrics.items()}


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _float(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _cell(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return "" if math.isnan(value) else repr(float(value))
    return value
