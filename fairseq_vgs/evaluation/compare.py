"""Results of several runs side by side, with paired differences from the first run.

A run is a results folder of one evaluation, or one checkpoint of ``fairseq-vgs evaluate run``.

Differences need the same items: one manifest, one split, one ABX condition. They are computed from the
per-item tables (ranks of queries, errors of ABX cells, recalls of words), all of them on the same resampled
images, phones or words.

Shapes: ``Q`` queries, ``C`` ABX cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fairseq_vgs.evaluation import (
    abx_results,
    compare_places,
    lexical_words,
    retrieval_pools,
    retrieval_results,
    run_figures,
)
from fairseq_vgs.evaluation import retrieval_figures as report
from fairseq_vgs.evaluation.metrics import bootstrap, retrieval
from fairseq_vgs.evaluation.results import METRICS_NAME, Metric, ResultsError, read_metrics, read_table

KINDS = (retrieval_results.KIND, abx_results.KIND, lexical_words.KIND, run_figures.KIND)
WITHIN = ", within "
"""Between a measure and the pools of ``evaluate retrieval --folds``; other pools are another measure."""
_SEED = 1  # of the intervals of checkpoints, whose files hold none; differences have their own
EVALUATED = "trained"
"""Name in metrics.json of the model that was evaluated; all others are baselines."""

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Run:
    """One results folder, or one checkpoint of ``evaluate run``.

    Attributes:
        title: for tables.
        folder: where it is; of a checkpoint its JSON file.
        content: its metrics.json, or what stands for it.
        models: name of a model -> measure -> figure; `EVALUATED` first.
        notes: what is missing from it, or not on the same items; one line each.
    """

    title: str
    folder: Path
    content: Mapping[str, Any]
    models: Mapping[str, Mapping[str, Metric]]
    notes: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """One of `KINDS`."""
        return str(self.content["kind"])

    @property
    def file(self) -> Path:
        """The file that was read."""
        return self.folder if self.kind == run_figures.KIND else self.folder / METRICS_NAME

    @property
    def data(self) -> dict[str, Any]:
        """What was measured, by what must be equal for two runs to be comparable."""
        if self.kind == run_figures.KIND:
            return dict(self.content["data"])
        found = {"split": self.content["split"]}
        hashes = self.content["provenance"]["manifest"]
        if self.kind == abx_results.KIND:
            found.update(self.content["condition"], items=self.content["items"]["sha256"])
            counts = self.content["models"][EVALUATED]["counts"]
            if counts["subsampled"]:
                found["seed"] = self.content["provenance"]["seed"]  # it draws the tokens
        if self.kind == lexical_words.KIND:
            found["compared"] = self.content.get("compared", lexical_words.MEANS)
        return {**found, **hashes}


@dataclass(frozen=True)
class Comparison:
    """Runs on one table.

    Attributes:
        runs: in the order given; the first is what the others are compared with.
        differences: title of a run -> measure -> its value minus the first's.
        notes: of the runs, and why there are no differences, or not all of them; one line each.
    """

    runs: tuple[Run, ...]
    differences: Mapping[str, Mapping[str, Metric]]
    notes: tuple[str, ...]


def read_runs(folders: Sequence[Path], *, titles: Sequence[str] | None = None) -> tuple[Run, ...]:
    """Read the figures of results folders.

    Args:
        folders: written by ``fairseq-vgs evaluate retrieval``, ``abx`` or ``lexical``, or single checkpoints'
            files of ``evaluate run``, as `compare_places.find_results` finds them; all of one kind.
        titles: one per folder; by default what distinguishes the paths.

    Raises:
        ResultsError: a folder without results, results of several kinds, or titles that do not fit.
    """
    names = compare_places.short_titles(folders) if titles is None else list(titles)
    if len(names) != len(folders) or len(set(names)) != len(names):
        raise ResultsError(
            f"titles: must be {len(folders)} different ones, one for each of "
            f"{', '.join(str(folder) for folder in folders)}, got {names}; give every folder once and a "
            "title for each"
        )
    runs = tuple(_read_run(folder, title) for folder, title in zip(folders, names, strict=True))
    for run in runs[1:]:
        if run.kind != runs[0].kind:
            raise ResultsError(
                f"{run.folder}: kind must be {runs[0].kind!r} as in {runs[0].folder}, got {run.kind!r}; "
                "compare them apart"
            )
    return runs


def compare_runs(runs: Sequence[Run], *, seed: int, allow_different_data: bool = False) -> Comparison:
    """Compute the differences of all runs from the first.

    Args:
        runs: of `read_runs`.
        seed: of the resampling.
        allow_different_data: no differences, instead of an error, where runs were measured on other data.

    Raises:
        ResultsError: runs measured on other data, or a broken table.
    """
    notes = list(dict.fromkeys(f"{run.title}: {note}" for run in runs for note in run.notes))
    lacking = {(title, name) for run in runs[1:] for name, title in _lacking_abx(run, runs[0]).items()}
    notes += [
        f"{title}: no {name}; fairseq-vgs evaluate run --abx adds it" for title, name in sorted(lacking)
    ]
    unlike = {run.title: _unlike(run, runs[0]) for run in runs[1:]}
    different = [f"{title} ({', '.join(names)})" for title, names in unlike.items() if names]
    if different and not allow_different_data:
        raise ResultsError(
            f"{METRICS_NAME}: data must be those of {runs[0].title}, got others in {'; '.join(different)}; "
            "evaluate on the same data, or pass --allow-different-data for a table without differences"
        )
    if different:
        note = f"measured on other data than {runs[0].title}: {'; '.join(different)}; so no differences"
        return Comparison(tuple(runs), {}, (*notes, note))
    compute = {
        retrieval_results.KIND: _rank_differences,
        abx_results.KIND: _cell_differences,
        lexical_words.KIND: _word_differences,
        run_figures.KIND: _checkpoint_differences,
    }[runs[0].kind]
    differences = {}
    for run in runs[1:]:
        missing = [path.name for side in (run, runs[0]) for path in _tables(side) if not path.is_file()]
        found = None if missing else compute(run, runs[0], seed=seed)
        if found is None:
            reason = f"{missing[0]} is missing" if missing else f"other items than {runs[0].title}"
            notes.append(f"no differences for {run.title}: {reason}")
        else:
            differences[run.title] = found
    return Comparison(tuple(runs), differences, tuple(notes))


def _read_run(folder: Path, title: str) -> Run:
    if folder.suffix == ".json":
        return _read_checkpoint(folder, title)
    path = folder / METRICS_NAME
    content = read_metrics(path, kind=None)
    if content.get("kind") not in KINDS:
        raise ResultsError(
            f"{path}: kind must be one of {', '.join(KINDS)}, got {content.get('kind')!r}; give the "
            "right folder"
        )
    try:
        models = {
            name: {**_metrics(model), **_fold_metrics(content, name)}
            for name, model in content["models"].items()
        }
        notes = tuple(str(note) for note in content.get("notes", ()))
        run = Run(title, folder, content, {EVALUATED: models.pop(EVALUATED), **models}, notes)
        _ = run.data
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ResultsError(
            f"{path}: must be what fairseq-vgs evaluate {content['kind']} wrote, got {error!r}; run it again"
        ) from error
    return run


def _read_checkpoint(path: Path, title: str) -> Run:
    """Read one checkpoint of ``evaluate run``; baselines are those of the same folder and data."""
    found = run_figures.read_checkpoint(path)
    fresh = path.with_name("0.json")
    try:
        models = {EVALUATED: found.metrics(seed=_SEED)}
        data = _measured_on(found.figures)
        notes: tuple[str, ...] = ()
        if fresh.is_file():
            untrained = run_figures.read_checkpoint(fresh)
            if different := _different(_measured_on(untrained.figures), data):
                notes = (f"no baselines: {fresh} was measured on other data ({', '.join(different)})",)
            else:
                models |= {"untrained": untrained.metrics(seed=_SEED)} if found.updates else {}
                models |= untrained.baseline_metrics()
        own = found.figures
        content = {
            "kind": run_figures.KIND,
            "updates": found.updates,
            "split": own["retrieval"]["split"],
            "pool": own["retrieval"]["pool"],
            "abx": [key for key in run_figures.ABX_KEYS.values() if key in own],
            "checkpoint": own["made_from"]["checkpoint"],
            "data": data,
        }
        return Run(title, path, content, models, notes)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ResultsError(
            f"{path}: must be what fairseq-vgs evaluate run wrote, got {error!r}; remove it, and run it again"
        ) from error


def _measured_on(figures: Mapping[str, Any]) -> dict[str, Any]:
    sources = {name: value for name, value in figures["made_from"].items() if name != "checkpoint"}
    return {"split": figures["retrieval"]["split"], **sources.pop("data"), **sources}


def _metrics(model: Mapping[str, Any]) -> dict[str, Metric]:
    return {measure: Metric.from_json(data) for measure, data in model["metrics"].items()}


def _fold_metrics(content: Mapping[str, Any], model: str) -> dict[str, Metric]:
    pools = _pools(content)
    if pools is None:
        return {}
    return {f"{name}{pools}": metric for name, metric in _metrics(content["folds"]["models"][model]).items()}


def _pools(content: Mapping[str, Any]) -> str | None:
    """Name the pools of ``--folds``, such that runs with other pools do not share a row; None without."""
    if "folds" not in content:
        return None
    return f"{WITHIN}{retrieval_pools.describe(content['folds'])} (seed {content['folds']['seed']})"


def _unlike(run: Run, first: Run) -> list[str]:
    return [name for name in _different(run.data, first.data) if name not in _lacking_abx(run, first)]


def _lacking_abx(run: Run, first: Run) -> dict[str, str]:
    """Name the ABX measures that only one of two runs of ``evaluate run`` has, and which run lacks them."""
    if run.kind != run_figures.KIND:
        return {}
    lacking = {}
    for name in run_figures.ABX_KEYS.values():
        without = [side.title for side in (run, first) if side.data.get(name) is None]
        if len(without) == 1:
            lacking[name] = without[0]
    return lacking


def _different(data: Mapping[str, Any], first: Mapping[str, Any]) -> list[str]:
    return [name for name in dict.fromkeys([*first, *data]) if first.get(name) != data.get(name)]


def _tables(run: Run) -> tuple[Path, ...]:
    names: tuple[str, ...] = {
        retrieval_results.KIND: (retrieval_results.SPEECH_TABLE, retrieval_results.IMAGE_TABLE),
        abx_results.KIND: (abx_results.cell_table_name(EVALUATED),),
        lexical_words.KIND: (lexical_words.WORDS_NAME,),
        run_figures.KIND: (),  # a checkpoint's arrays were needed for its figures
    }[run.kind]
    return tuple(run.folder / name for name in names)


def _rank_differences(run: Run, first: Run, *, seed: int) -> dict[str, Metric] | None:
    differences, within = {}, {}
    pools = _pools(run.content)
    for direction, table, first_table in zip(retrieval.DIRECTIONS, _tables(run), _tables(first), strict=True):
        queries, ranks, groups = _read_ranks(table)
        others = _read_ranks(first_table)
        if queries != others[0] or not np.array_equal(groups, others[2]):
            return None
        for name, metric in report.query_differences(ranks, others[1], groups, seed=seed).items():
            differences[f"{direction}_{name}"] = metric
        if pools is None or pools != _pools(first.content):
            continue
        own, other = (_read_ranks(path, column="fold_rank")[1] for path in (table, first_table))
        for k in retrieval.RECALL_CUTOFFS:
            hits, other_hits = (np.where(found <= k, 100.0, 0.0) for found in (own, other))
            interval = bootstrap.paired_difference(hits, other_hits, groups, seed=seed)
            within[f"{direction}_r{k}{pools}"] = Metric(interval, len(own), None, "percentage points")
    return {**differences, **within}


def _read_ranks(path: Path, *, column: str = "rank") -> tuple[list[str], FloatArray, npt.NDArray[np.int64]]:
    """Return the queries, f64[Q] their ranks and int64[Q] their groups; distractors are left out."""
    rows = read_table(path)
    try:
        name = "audio_id" if "audio_id" in rows[0] else "image_id"
        rows = [row for row in rows if row["rank"]]
        ranks = np.array([float(row[column]) for row in rows], dtype=np.float64)
        groups = np.array([int(row["group"]) for row in rows], dtype=np.int64)
        return [row[name] for row in rows], ranks, groups
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ResultsError(
            f"{path}: must be the table that fairseq-vgs evaluate retrieval wrote, got {error!r}; run "
            "it again"
        ) from error


def _word_differences(run: Run, first: Run, *, seed: int) -> dict[str, Metric] | None:
    (table,), (first_table,) = _tables(run), _tables(first)
    words, recalls = lexical_words.read_words(table, EVALUATED)
    other_words, others = lexical_words.read_words(first_table, EVALUATED)
    return lexical_words.word_differences(recalls, others, seed=seed) if words == other_words else None


def _checkpoint_differences(run: Run, first: Run, *, seed: int) -> dict[str, Metric] | None:
    own, other = (run_figures.read_checkpoint(side.folder) for side in (run, first))
    return run_figures.differences(own, other, seed=seed)


def _cell_differences(run: Run, first: Run, *, seed: int) -> dict[str, Metric] | None:
    (table,), (first_table,) = _tables(run), _tables(first)
    cells, errors = abx_results.read_cells(table)
    other_cells, other_errors = abx_results.read_cells(first_table)
    if not abx_results.same_cells(cells, other_cells):
        return None
    differences = {}
    for layer in (layer for layer in errors if layer in other_errors):
        differences[layer] = abx_results.paired_difference(
            cells, errors[layer], other_cells, other_errors[layer], seed=seed
        )
    return differences
