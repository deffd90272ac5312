"""Measure every saved checkpoint of a run with several evaluators.

``OUTPUT/UPDATES/EVALUATION`` is a results folder (``results``) without tables. Update 0 is the same model
with fresh weights, measured together with MFCC. An interrupted evaluation continues with what is
missing. Results of something else (another checkpoint, other data, items or conditions) are replaced with
``force`` only; results that are not asked for are kept.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from fairseq_vgs.device import resolve_device
from fairseq_vgs.evaluation.evaluate import measure
from fairseq_vgs.evaluation.evaluator import (
    EVALUATORS,
    MFCC,
    UNTRAINED,
    CommonSettings,
    Evaluator,
    Model,
    load_model,
)
from fairseq_vgs.evaluation.results import ALWAYS, METRICS_NAME, Result, read_result
from fairseq_vgs.evaluation.version_1 import forget_version_1, read_version_1
from fairseq_vgs.files.output import OutputExistsError, try_output
from fairseq_vgs.files.provenance import sha256_file

# Fresh weights, how speech is cut, and how embeddings are compared depend on these sections.
_SETTINGS = ("task", "criterion", "model")
_HASH_LENGTH, _HASH_LETTERS = 64, 12  # of SHA-256 in hexadecimal, and what is shown of it


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of every checkpoint: what measures, with which options."""

    evaluator: Evaluator
    settings: CommonSettings

    @property
    def key(self) -> str:
        """Name of its folder: that of the evaluator, and what distinguishes it from others by the same."""
        return "_".join(filter(None, (self.evaluator.name, self.settings.variant)))

    @cached_property
    def sources(self) -> dict[str, Any]:
        """What values depend on besides the checkpoint, as read back from JSON."""
        return dict(json.loads(json.dumps(self.evaluator.sources(self.settings))))


@dataclass(frozen=True)
class _Task:
    """A checkpoint, or update 0."""

    updates: int
    path: Path
    untrained_seed: int | None
    baselines: tuple[str, ...]


Results = dict[str, Result]


def evaluate_run(
    run: Path,
    evaluations: Sequence[Evaluation],
    output: Path,
    *,
    every: int,
    at: Collection[int] = (),
    baselines: Collection[str] = (),
    untrained_seed: int = 1,
    command: str = "",
    force: bool = False,
) -> Iterator[tuple[int, Results, int]]:
    """Measure the checkpoints of a run that have no results in ``output`` yet.

    Keys of the evaluations differ. Checkpoints are those after a multiple of ``every`` updates and ``at``
    others. Of the baselines, "untrained" is the same model with fresh weights, measured as update 0, and
    "mfcc" goes with it, where an evaluator can. ``force`` replaces results of something else, each when its
    new values are measured, and then removes those of another checkpoint that are not asked for.

    Yields:
        (updates, results by key, number of checkpoints) of each, as soon as it is measured.

    Raises:
        CheckpointError, FaultError, AbxError: A checkpoint or data cannot be used.
        OutputExistsError: Results in ``output`` are of something else; nothing is measured then.
    """
    from fairseq_vgs.checkpoints.runs import checkpoints_of

    tasks = _tasks(checkpoints_of(run, every=every, at=at), baselines, seed=untrained_seed)
    evaluations = [
        replace(one, settings=replace(one.settings, device=resolve_device(one.settings.device)))
        for one in evaluations
    ]
    checkpoints = {task.updates: _checkpoint_source(task) for task in tasks}
    there = {task.updates: read_checkpoint(output / str(task.updates)) for task in tasks}
    sources = {one.key: one.sources for one in evaluations}
    stale = {
        task.updates: dict(_stale(there[task.updates], checkpoints[task.updates], sources)) for task in tasks
    }
    if any(stale.values()) and not force:
        _refuse(stale)
    for task in tasks:
        found, outdated = there[task.updates], stale[task.updates]
        missing = [
            one
            for one in evaluations
            if one.key in outdated or not _is_measured(found.get(one.key), one, task)
        ]
        if missing:
            try_output(output / str(task.updates), option="--output")
        models = _Models(task)
        for one in missing:
            found[one.key] = measure(
                one.evaluator,
                models.of(one),
                one.settings,
                output / str(task.updates) / one.key,
                made_from={"checkpoint": checkpoints[task.updates], **sources[one.key]},
                checkpoint=task.path,
                command=command,
            )
        for key in outdated.keys() - sources.keys():
            discard_result(found.pop(key), key)
        yield task.updates, {one.key: found[one.key] for one in evaluations}, len(tasks)


def read_checkpoint(stem: Path) -> Results:
    """Read the results of one checkpoint, retrieval first; empty if there are none.

    ``OUTPUT/UPDATES`` is a folder or, in an earlier form, ``UPDATES.json`` and ``.npz``. A result in the
    folder takes the place of one in the file.

    Raises:
        ResultsError: A file is broken.
    """
    old = stem.with_name(f"{stem.name}.json")
    found = read_version_1(old) if old.is_file() else {}
    found |= {path.parent.name: read_result(path) for path in sorted(stem.glob(f"*/{METRICS_NAME}"))}
    return dict(sorted(found.items(), key=lambda entry: (entry[0] != "retrieval", entry[0])))


def discard_result(result: Result, key: str) -> None:
    """Remove one result of a checkpoint; others in the same file of an earlier version stay."""
    if result.path.name == METRICS_NAME:
        result.path.unlink(missing_ok=True)
    else:
        forget_version_1(result.path, key)


def checkpoints_in(folder: Path) -> dict[int, Path]:
    """Find what ``read_checkpoint`` reads: updates -> ``folder/UPDATES``; 0 has fresh weights."""
    stems = {path.parent.parent for path in folder.glob(f"*/*/{METRICS_NAME}")}
    stems |= {path.with_suffix("") for path in folder.glob("*.json")}
    return dict(sorted((int(stem.name), stem) for stem in stems if stem.name.isdecimal()))


def score_rows(measured: Mapping[int, Results]) -> list[list[str]]:
    """Lay out a table of results by updates: a row per checkpoint, then MFCC and chance; the best layer."""
    last = list(measured.values())[-1]
    rows: dict[str, list[str]] = {"update": []}
    rows |= {_row_title(updates, found): [] for updates, found in measured.items()}
    others = {
        name: model["title"]
        for found in measured.values()
        for r in found.values()
        for name, model in list(r.content["models"].items())[1:]
    }
    rows |= {title: [] for title in (*others.values(), "chance")}
    for key, result in last.items():
        evaluator = EVALUATORS[result.kind]()
        columns = evaluator.columns(result.content)
        heads = [evaluator.heading(result.content), "best layer"] if evaluator.layered else columns.values()
        rows["update"] += heads
        for updates, found in measured.items():
            rows[_row_title(updates, found)] += _cells(found[key], found[key].evaluated, columns, evaluator)
        for name, title in others.items():
            holder = next((f[key] for f in measured.values() if name in f[key].models), None)
            blank = ["-"] * len(list(heads))
            rows[title] += blank if holder is None else _cells(holder, name, columns, evaluator)
        metrics = result.models[result.evaluated]
        if evaluator.layered:
            rows["chance"] += [next(iter(metrics.values())).chance_text(".2f"), ""]
        else:
            rows["chance"] += [metrics[name].chance_text(".1f") for name in columns]
    return [[title, *cells] for title, cells in rows.items()]


def notes_of(measured: Mapping[int, Results]) -> list[str]:
    """Return notes on values that any order reaches, and on models without the same items."""
    last = list(measured.values())[-1]
    notes = []
    for result in last.values():
        evaluator, metrics = EVALUATORS[result.kind](), result.models[result.evaluated]
        certain = [evaluator.title(name, result.content) for name in metrics if metrics[name].is_certain]
        notes += [f"{', '.join(certain)}: {ALWAYS}"] if certain else []
    found = [note for results in measured.values() for r in results.values() for note in r.content["notes"]]
    return [*notes, *dict.fromkeys(found)]


class _Models:
    """Load the models of a task, each once."""

    def __init__(self, task: _Task) -> None:
        self._task = task
        self._model: Model | None = None

    def of(self, evaluation: Evaluation) -> Iterator[Model]:
        """Yield the model of the task, then MFCC if wanted."""
        task, needs = self._task, evaluation.evaluator.needs_embeddings
        # Stock wav2vec 2.0 has no embeddings; where they are needed, loading refuses it.
        if self._model is None or (needs and not self._model.checkpoint.has_embeddings):
            self._model = load_model(
                task.path, untrained_seed=task.untrained_seed, allow_stock=not needs, outputs_only=True
            )
        yield self._model
        if MFCC in _extra(evaluation, task):
            yield Model(MFCC, "MFCC")


def _tasks(checkpoints: Mapping[int, Path], baselines: Collection[str], *, seed: int) -> list[_Task]:
    tasks = [_Task(updates, path, None, ()) for updates, path in checkpoints.items()]
    if UNTRAINED in baselines:
        extra = tuple(name for name in baselines if name != UNTRAINED)
        tasks.insert(0, _Task(0, tasks[0].path, seed, extra))
    elif baselines:  # with the first checkpoint, as there is no update 0
        tasks[0] = replace(tasks[0], baselines=tuple(baselines))
    return tasks


def _extra(evaluation: Evaluation, task: _Task) -> set[str]:
    return set(task.baselines) & set(evaluation.evaluator.baselines)


def _is_measured(result: Result | None, evaluation: Evaluation, task: _Task) -> bool:
    if result is None:
        return False
    # In the earlier form, MFCC was measured within speaker only.
    return result.path.name != METRICS_NAME or _extra(evaluation, task) <= result.models.keys()


def _row_title(updates: int, results: Results) -> str:
    if updates:
        return str(updates)
    result = next(iter(results.values()))
    return str(result.content["models"][result.evaluated].get("title", UNTRAINED))


def _cells(result: Result, model: str, columns: Mapping[str, str], evaluator: Evaluator) -> list[str]:
    metrics = result.models[model]
    if not evaluator.layered:
        return [f"{metrics[name].value.value:.1f}" if name in metrics else "-" for name in columns]
    choose = max if evaluator.higher_is_better else min
    best = choose(metrics, key=lambda name: metrics[name].value.value)
    return [f"{metrics[best].value.value:.2f}", "" if best == model else best]


def _checkpoint_source(task: _Task) -> dict[str, Any]:
    """Return what identifies a model: its file or, for fresh weights, the settings and the seed."""
    if task.untrained_seed is None:
        return {"file": task.path.name, "sha256": sha256_file(task.path), "untrained_seed": None}
    from fairseq_vgs.checkpoints.load import read_config, section

    # Not the file: the run's first checkpoint may have changed, with the same settings.
    config = read_config(task.path)
    settings = json.dumps({name: section(config, name) for name in _SETTINGS}, sort_keys=True, default=str)
    digest = sha256(settings.encode()).hexdigest()
    return {"settings_sha256": digest, "untrained_seed": task.untrained_seed}


def _stale(
    there: Results, checkpoint: Mapping[str, Any], sources: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str, tuple[Path, str]]]:
    """Yield (key, (file, what differs)) of results of something else."""
    for key, result in there.items():
        made_from = result.content.get("made_from", {})
        if key not in sources:  # not asked for: it may stay if it is of this checkpoint
            made_from = {"checkpoint": made_from.get("checkpoint", {})}
        now = {"checkpoint": checkpoint, **sources.get(key, {})}
        if differing := [f"{key} {text}" for text in _differing(made_from, now)]:
            yield key, (result.path, "; ".join(differing))


def _refuse(stale: Mapping[int, Mapping[str, tuple[Path, str]]]) -> None:
    having = [found for found in stale.values() if found]
    path, differing = next(iter(having[0].values()))
    message = (
        f"already exists, and was made from something else ({differing}); {len(having)} of {len(stale)} "
        "checkpoints have such results; pass --force to replace them, or another --output"
    )
    raise OutputExistsError.at(path, message, "output.exists")


def _differing(old: Mapping[str, Any], now: Mapping[str, Any], within: str = "") -> Iterator[str]:
    for name in dict.fromkeys([*old, *now]):
        before, after = old.get(name), now.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from _differing(before, after, f"{within}{name} ")
        elif before != after:
            yield f"{within}{name}: {_brief(before)}, now {_brief(after)}"


def _brief(source: Any) -> str:
    if isinstance(source, Mapping):
        return "measured"
    text = "none" if source is None else str(source)
    return text[:_HASH_LETTERS] if len(text) == _HASH_LENGTH else text
