"""Evaluate one checkpoint: the model and its baselines, intervals, differences, files."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fairseq_vgs.device import resolve_device
from fairseq_vgs.evaluation.evaluator import CommonSettings, Evaluator, Model, open_models
from fairseq_vgs.evaluation.results import (
    METRICS_NAME,
    Items,
    Metric,
    Result,
    Scores,
    differences,
    metrics_json,
    result_files,
    write_result,
)
from fairseq_vgs.files.output import refuse_existing, staged_files, try_output
from fairseq_vgs.files.provenance import machine, peak_memory_mb, sha256_file, versions


def evaluate(
    evaluator: Evaluator,
    checkpoint: Path,
    settings: CommonSettings,
    output: Path,
    *,
    baselines: Sequence[str],
    command: str = "",
    force: bool = False,
) -> Result:
    """Measure a checkpoint and some of the evaluator's baselines, and write a results folder.

    The checkpoint is of this plugin or, where the evaluator needs no embeddings, fairseq's own wav2vec2.

    Raises:
        OutputExistsError: There are results already; nothing is measured then.
        FaultError: ``output.unwritable``; nothing is measured then.
        CheckpointError, FaultError, AbxError: The checkpoint or data cannot be used.
    """
    refuse_existing(*result_files(output, evaluator.files), force=force)
    try_output(output, option="--output")
    settings = replace(settings, device=resolve_device(settings.device))
    models = open_models(checkpoint, baselines, seed=settings.seed, evaluator=evaluator)
    trained = next(models)
    made_from = {
        "checkpoint": {"file": checkpoint.name, "sha256": sha256_file(checkpoint), "untrained_seed": None},
        **evaluator.sources(settings),
    }
    return measure(
        evaluator,
        itertools.chain([trained], models),
        settings,
        output,
        made_from=made_from,
        checkpoint=checkpoint,
        command=command,
        with_tables=True,
    )


def measure(
    evaluator: Evaluator,
    models: Iterable[Model],
    settings: CommonSettings,
    output: Path,
    *,
    made_from: Mapping[str, Any],
    checkpoint: Path,
    command: str = "",
    with_tables: bool = False,
) -> Result:
    """Measure models, taken one by one, compare the first with the others, and write a results folder.

    Existing files are replaced. ``made_from`` is what the values depend on, ``command`` what the user typed;
    ``with_tables`` writes the evaluator's own files, too.
    """
    start = time.perf_counter()
    scores: dict[str, Scores] = {}
    described: dict[str, dict[str, Any]] = {}
    estimates: dict[str, dict[str, Metric]] = {}
    for model in models:
        begun = time.perf_counter()
        scores[model.name] = found = evaluator.measure(model, settings)
        estimates[model.name] = found.estimates(seed=settings.seed)
        described[model.name] = {
            "title": model.title,
            "n_updates": model.n_updates,
            "metrics": metrics_json(estimates[model.name]),
            "seconds": round(time.perf_counter() - begun, 3),
            **found.details,
        }
    first = next(iter(scores))
    titles = {name: str(model["title"]) for name, model in described.items()}
    content = {
        "kind": evaluator.name,
        "data": str(settings.data),
        "split": settings.split,
        "condition": settings.condition(),
        **scores[first].facts,
        "checkpoint": {"path": str(checkpoint), "sha256": sha256_file(checkpoint)},
        "models": described,
        "differences": _differences(scores, estimates, seed=settings.seed),
        "notes": [*scores[first].notes, *evaluator.notes(scores, titles)],
        "made_from": dict(made_from),
        "provenance": {
            "command": command,
            "seed": settings.seed,
            "manifest": made_from["data"],
            "versions": versions(),
            "machine": machine(),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        },
        "cost": {"seconds": round(time.perf_counter() - start, 2), "peak_memory_mb": peak_memory_mb()},
    }
    items: dict[str, Mapping[str, Items]] = {name: found.items for name, found in scores.items()}
    with staged_files(output, last=METRICS_NAME) as staging:
        if with_tables:
            evaluator.write_files(staging, scores, force=True)
        written = write_result(staging, content, items)
    return Result(written, output / METRICS_NAME, items)


def _differences(
    scores: Mapping[str, Scores], estimates: Mapping[str, Mapping[str, Metric]], *, seed: int
) -> dict[str, Any]:
    """Return as JSON the first model minus every other one that was measured on the same items."""
    first, *others = scores
    found = {
        f"{first} minus {name}": differences(
            scores[first].items, scores[name].items, estimates[first], seed=seed, one_for_all=True
        )
        for name in others
    }
    return {title: metrics_json(metrics) for title, metrics in found.items() if metrics is not None}
