"""Compare results of several runs, with paired differences from the first.

A run is a results folder of one evaluation, or one checkpoint of ``fairseq-vgs evaluate run`` with all of its
evaluations. Differences need the same data folder, split and condition. They are computed item by item, all
on the same resampled images, phones or words.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any

from fairseq_vgs.evaluation.evaluator import EVALUATORS, TRAINED
from fairseq_vgs.evaluation.over_training import checkpoints_in, read_checkpoint
from fairseq_vgs.evaluation.results import (
    METRICS_NAME,
    Metric,
    Result,
    ResultsError,
    differences,
    read_result,
    written_by,
)
from fairseq_vgs.files.faults import Fault

EVALUATED = TRAINED
"""Name of the evaluated model; all others are baselines."""
RUN_KIND = "run"
EVALUATION_FOLDER = "evaluation"
"""Where ``fairseq-vgs evaluate run RUN`` writes by default, within RUN."""


@dataclass(frozen=True)
class Run:
    """One results folder, or one checkpoint of ``evaluate run`` (then ``folder`` is ``OUTPUT/UPDATES``).

    ``results``: name of an evaluation -> its result; ``baselines``: those of update 0, of a checkpoint.
    ``notes`` say what is missing, or not on the same items, one line each.
    """

    title: str
    folder: Path
    results: Mapping[str, Result]
    baselines: Mapping[str, Result]
    is_checkpoint: bool = False
    notes: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """Name of the evaluation, or ``RUN_KIND``."""
        return RUN_KIND if self.is_checkpoint else next(iter(self.results.values())).kind

    @cached_property
    def models(self) -> dict[str, dict[str, Metric]]:
        """Name of a model -> measure -> value; ``EVALUATED`` first."""
        models: dict[str, dict[str, Metric]] = {EVALUATED: {}}
        for results in (self.results, self.baselines):
            for key, result in results.items():
                for name, metrics in result.models.items():
                    is_own = results is self.results and name == result.evaluated
                    values = models.setdefault(EVALUATED if is_own else name, {})
                    values |= {self.measure(key, metric): found for metric, found in metrics.items()}
        return models

    @cached_property
    def titles(self) -> dict[str, str]:
        """Measure -> its name in tables."""
        return {
            self.measure(key, metric): EVALUATORS[result.kind]().title(
                metric, result.content, alone=not self.is_checkpoint
            )
            for found in (self.results, self.baselines)
            for key, result in found.items()
            for metrics in result.models.values()
            for metric in metrics
        }

    @cached_property
    def data(self) -> dict[str, dict[str, Any]]:
        """Name of an evaluation -> what must be equal for two runs to be comparable."""
        results = self.results.items()
        return {key: EVALUATORS[result.kind]().identity(result.content) for key, result in results}

    def measure(self, key: str, metric: str) -> str:
        """Name a metric among those of all evaluations of a checkpoint."""
        kind = (self.results.get(key) or self.baselines[key]).kind
        return f"{key}_{metric}" if self.is_checkpoint and EVALUATORS[kind].layered else metric


@dataclass(frozen=True)
class Comparison:
    """Runs on one table, in the order given; the others are compared with the first.

    ``differences``: title of a run -> measure -> its value minus the first's. ``notes`` are those of the
    runs, and why there are no differences, or not all of them.
    """

    runs: tuple[Run, ...]
    differences: Mapping[str, Mapping[str, Metric]]
    notes: tuple[str, ...]


def read_runs(folders: Sequence[Path], *, titles: Sequence[str] | None = None) -> tuple[Run, ...]:
    """Read what ``find_results`` finds, all of one kind; titles are by default where the paths differ.

    Raises:
        ResultsError: A folder without results, results of several kinds, or titles that do not fit.
    """
    names = short_titles(folders) if titles is None else list(titles)
    if len(names) != len(folders) or len(set(names)) != len(names):
        expected = f"must be {len(folders)} different ones, one for each of {', '.join(map(str, folders))}"
        message = f"{expected}, got {names}; give every folder once and a title for each"
        raise ResultsError.at("titles", message, "setting.value")
    runs = tuple(map(_read_run, folders, names))
    for run in runs[1:]:
        if run.kind != runs[0].kind:
            message = f"kind must be {runs[0].kind!r} as in {runs[0].folder}, got {run.kind!r}"
            raise ResultsError.at(run.folder, f"{message}; compare them apart", "results.kind")
    return runs


def compare_runs(runs: Sequence[Run], *, seed: int, allow_different_data: bool = False) -> Comparison:
    """Compute the differences of all runs from the first.

    Raises:
        ResultsError: Runs measured on other data (unless allowed: then without differences), broken items.
    """
    first = runs[0]
    notes = list(dict.fromkeys(f"{run.title}: {note}" for run in runs for note in run.notes))
    lacking = {
        f"{side.title}: no {key}; fairseq-vgs evaluate run adds it"
        for run in runs[1:]
        for side, other in ((run, first), (first, run))
        for key in other.results.keys() - side.results.keys()
    }
    notes += sorted(lacking)
    unlike = {run.title: _unlike(run, first) for run in runs[1:]}
    different = [f"{title} ({', '.join(names)})" for title, names in unlike.items() if names]
    if different and not allow_different_data:
        message = (
            f"data must be those of {first.title}, got others in {'; '.join(different)}; evaluate on the "
            "same data, or pass --allow-different-data for a table without differences"
        )
        raise ResultsError.at(METRICS_NAME, message, "results.other_data")
    if different:
        note = f"measured on other data than {first.title}: {'; '.join(different)}; so no differences"
        return Comparison(tuple(runs), {}, (*notes, note))
    found: dict[str, dict[str, Metric]] = {}
    for run in runs[1:]:
        try:
            gains, reason = _differences(run, first, seed=seed), f"other items than {first.title}"
        except ResultsError as error:
            if error.codes != ("results.items_missing",):
                raise
            gains, reason = {}, str(error)
        if gains:
            found[run.title] = gains
        else:
            notes.append(f"no differences for {run.title}: {reason}")
    return Comparison(tuple(runs), found, tuple(notes))


def find_results(places: Sequence[Path], *, updates: Collection[int] | None = None) -> list[Path]:
    """Find results folders and checkpoints of ``evaluate run``.

    A place is a results folder (or its metrics.json), a folder with several such folders in it, or a folder
    of ``evaluate run``, the run folder around it, or one of its checkpoints. Of a run come the checkpoints
    after ``updates``; else, if it is the only place, all but the untrained one; else the last that all of
    them have.

    Raises:
        ResultsError: A place without results, or runs without such checkpoints.
    """
    found: list[list[Path] | dict[int, Path]] = []
    missing: list[Fault] = []
    for place in places:
        try:
            found.append(_results_in(place))
        except ResultsError as error:
            missing += error.faults
    if missing:
        raise ResultsError(missing)
    runs = {place: part for place, part in zip(places, found, strict=True) if isinstance(part, dict)}
    if updates is not None and not runs:
        given = ", ".join(map(str, places))
        message = f"must be given with folders of fairseq-vgs evaluate run, got {given}; leave it out"
        raise ResultsError.at("--updates", message, "setting.value")
    chosen = _chosen_updates(runs, alone=len(places) == 1) if updates is None else sorted(set(updates))
    for place, part in runs.items():
        lacking = [number for number in chosen if number not in part]
        if lacking:
            message = (
                f"must hold a checkpoint after {lacking[0]} updates, got {_numbers(part)}; choose others"
            )
            raise ResultsError.at(place, f"{message} with --updates, or evaluate it", "results.updates")
    return [
        path
        for part in found
        for path in ([part[number] for number in chosen] if isinstance(part, dict) else part)
    ]


def short_titles(paths: Sequence[Path]) -> list[str]:
    """Name results by the part of their paths in which they differ; checkpoints by their updates as well.

    Different paths have different titles.
    """
    folders = [path.parent if path.name.isdecimal() else path for path in paths]
    distinct = list(dict.fromkeys(folders))
    parts = [folder.parts or (str(folder),) for folder in distinct]
    shortest = min(len(part) for part in parts)
    start = min(_n_shared(parts), shortest - 1)
    end = min(_n_shared([part[::-1] for part in parts]), shortest - start - 1)
    own = [str(Path(*part[start : len(part) - end])) for part in parts]
    names = dict(zip(distinct, own, strict=True))
    titles = []
    for path, folder in zip(paths, folders, strict=True):
        update = [f"update {path.name}"] if path.name.isdecimal() else []
        parts_of_title = [names[folder], *update] if len(distinct) > 1 or not update else update
        titles.append(", ".join(parts_of_title))
    return titles


def _read_run(folder: Path, title: str) -> Run:
    if not (folder / METRICS_NAME).is_file() and folder.name.isdecimal():
        return _read_checkpoint(folder, title)
    result = read_result(folder)
    if result.evaluated != EVALUATED:
        message = f"must hold the model {EVALUATED!r}, got {result.evaluated!r}; run it again"
        raise ResultsError.at(result.path, message, "results.broken")
    return _tried(Run(title, folder, {result.kind: result}, {}, notes=_notes([result])))


def _read_checkpoint(stem: Path, title: str) -> Run:
    """Read one checkpoint of ``evaluate run``; baselines come from the same folder and data."""
    results = read_checkpoint(stem)
    if not results:
        message = "must be a checkpoint's results; run fairseq-vgs evaluate run first"
        raise ResultsError.at(stem, message, "file.missing")
    run = _tried(Run(title, stem, results, {}, True, _notes(results.values())))
    fresh = stem.with_name("0")
    untrained = read_checkpoint(fresh) if fresh != stem else {}
    if not untrained:
        return run
    different = _unlike(run, _tried(Run(title, fresh, untrained, {}, is_checkpoint=True)))
    kept = results.keys() - different
    baselines = {key: result for key, result in untrained.items() if key in kept}
    notes = [*run.notes, *_notes(baselines.values())]
    if different:
        notes.append(f"no baselines: {fresh} was measured on other data ({', '.join(different)})")
    return replace(run, baselines=baselines, notes=tuple(notes))


def _notes(results: Iterable[Result]) -> tuple[str, ...]:
    return tuple(str(note) for result in results for note in result.content.get("notes", ()))


def _tried(run: Run) -> Run:
    """Read all that a comparison needs of metrics.json."""
    for result in run.results.values():
        if result.kind not in EVALUATORS:
            message = f"kind must be one of {', '.join(EVALUATORS)}, got {result.kind!r}"
            raise ResultsError.at(result.path, f"{message}; give the right folder", "results.kind")
    for result in run.results.values():
        command = f"fairseq-vgs evaluate {RUN_KIND if run.is_checkpoint else result.kind}"
        with written_by(command, result.path):
            evaluator = EVALUATORS[result.kind]()
            _ = evaluator.identity(result.content), evaluator.describe(result.content), run.models, run.titles
    return run


def _unlike(run: Run, first: Run) -> list[str]:
    """Name what differs in what two runs were measured on; of checkpoints, the evaluations."""
    both = [key for key in run.data if key in first.data]
    if run.is_checkpoint:
        return [key for key in both if _different(run.data[key], first.data[key])]
    return [name for key in both for name in _different(run.data[key], first.data[key])]


def _different(data: Mapping[str, Any], first: Mapping[str, Any]) -> list[str]:
    return [name for name in dict.fromkeys([*first, *data]) if first.get(name) != data.get(name)]


def _differences(run: Run, first: Run, *, seed: int) -> dict[str, Metric]:
    found = {}
    for key, result in run.results.items():
        other = first.results.get(key)
        if other is None:
            continue
        metrics = result.models[result.evaluated]
        own, theirs = (side.items[side.evaluated] for side in (result, other))
        gains = differences(own, theirs, metrics, seed=seed) or {}
        found.update({run.measure(key, name): metric for name, metric in gains.items()})
    return found


def _n_shared(parts: Sequence[Sequence[str]]) -> int:
    return sum(1 for _ in takewhile(lambda level: len(set(level)) == 1, zip(*parts, strict=False)))


def _results_in(place: Path) -> list[Path] | dict[int, Path]:
    """Return results, or of a folder of ``evaluate run`` its checkpoints by updates."""
    if place.name == METRICS_NAME and place.is_file():
        return [place.parent]
    if (place / METRICS_NAME).is_file():
        return [place]
    stem = place.with_suffix("") if place.suffix == ".json" else place
    if stem.name.isdecimal() and stem in checkpoints_in(stem.parent).values():
        return [stem]
    checkpoints = checkpoints_in(place) or checkpoints_in(place / EVALUATION_FOLDER)
    if checkpoints:
        return checkpoints
    within = sorted(path.parent for path in place.glob(f"*/{METRICS_NAME}"))
    if not within:
        state = "got a place without results" if place.exists() else "got no such file or folder"
        message = (
            f"must be a folder with {METRICS_NAME}, a folder of such folders, or a run (or its folder "
            f"{EVALUATION_FOLDER}) after fairseq-vgs evaluate run, {state}; evaluate first"
        )
        raise ResultsError.at(place, message, "file.missing")
    return within


def _chosen_updates(runs: dict[Path, dict[int, Path]], *, alone: bool) -> list[int]:
    if not runs:
        return []
    if alone:
        (only,) = runs.values()
        return [number for number in only if number] or list(only)
    common = set.intersection(*map(set, runs.values()))
    # Models before training differ by chance only, and every run has one.
    if not common or (common == {0} and any(max(part) for part in runs.values())):
        having = "; ".join(f"{place}: {_numbers(part)}" for place, part in runs.items())
        last = shlex.join(str(part[max(part)]) for part in runs.values())
        message = (
            f"runs must have a checkpoint after the same number of updates, got {having}; evaluate others, "
            f"or compare the last of each: fairseq-vgs compare {last}"
        )
        raise ResultsError.at("fairseq-vgs compare", message, "results.updates")
    return [max(common)]


def _numbers(checkpoints: dict[int, Path]) -> str:
    return ", ".join(map(str, checkpoints))
