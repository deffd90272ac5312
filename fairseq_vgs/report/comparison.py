"""Write a comparison of runs as text, Markdown, LaTeX and CSV: measures down, runs across.

```
comparison.md     scores, then differences from the first run, with a description
comparison.tex    the same tables (booktabs)
comparison.csv    every value of every model in full precision, one per row
comparison.json   the same with hashes, seed, versions and command
```
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fairseq_vgs.evaluation.compare import EVALUATED, Comparison, Run
from fairseq_vgs.evaluation.evaluator import EVALUATORS
from fairseq_vgs.evaluation.results import Metric, metrics_json, write_metrics, write_table
from fairseq_vgs.files.atomic import write_text
from fairseq_vgs.files.output import all_or_none
from fairseq_vgs.files.provenance import sha256_file, versions
from fairseq_vgs.files.text_tables import latex_table, markdown_table, markdown_text, text_table

KIND = "comparison"
FILE_NAMES = ("comparison.md", "comparison.tex", "comparison.csv", "comparison.json")
NOTHING = "-"
_BOUNDS = ("value", "low", "high")
_DIFFERENCE = ("difference", "difference_low", "difference_high")
CSV_COLUMNS = ("run", "folder", "model", "measure", "unit", *_BOUNDS, "n", "chance", *_DIFFERENCE)

Rows = list[list[str]]
_Metrics = Mapping[str, Metric]
_Column = tuple[str, Callable[[str], str]]  # title, and the cell of a measure


def score_rows(comparison: Comparison) -> Rows:
    """Lay out the scores: a row per measure; a column per run, then baselines and chance."""
    runs = comparison.runs
    columns = [(run.title, _metric_cell(run.models[EVALUATED], str)) for run in runs]
    return _table([*columns, *_baseline_columns(runs), *_chance_columns(runs)], _measures(runs), runs)


def difference_rows(comparison: Comparison) -> Rows:
    """Lay out the differences from the first run; no rows where there are none."""
    found = comparison.differences
    columns = [
        (title, _metric_cell(metrics, lambda metric: metric.shown("+"))) for title, metrics in found.items()
    ]
    measures = dict.fromkeys(name for metrics in found.values() for name in metrics)
    return _table(columns, list(measures), comparison.runs) if found else []


def describe(comparison: Comparison) -> list[str]:
    """Describe what was measured, on what, and what keeps runs from being compared; one line each."""
    lines: list[str] = []
    for run in comparison.runs:
        line = _described(run)
        if line not in lines:
            lines.append(line if not lines else f"{run.title}: {line}")
    return [*lines, *comparison.notes]


def as_text(comparison: Comparison) -> str:
    """Lay everything out for a terminal."""
    return _document(comparison, text_table, line="{}", heading="{}\n")


def as_markdown(comparison: Comparison) -> str:
    """Write scores and differences as Markdown tables."""
    text = _document(comparison, markdown_table, line="- {}", heading="{}\n\n", escape=markdown_text)
    return f"{text}\n"


def as_latex(comparison: Comparison) -> str:
    """Write scores and differences as LaTeX tables (booktabs), described in comments."""
    text = _document(comparison, latex_table, line="% {}", heading="% {}\n", escape=_one_line)
    return f"{text}\n"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _document(
    comparison: Comparison,
    table: Callable[[Rows], str],
    *,
    line: str,
    heading: str,
    escape: Callable[[str], str] = str,
) -> str:
    described = "\n".join(line.format(escape(text)) for text in describe(comparison))
    parts = [described, table(score_rows(comparison))]
    if differences := difference_rows(comparison):
        title = f"run minus {comparison.runs[0].title}, % as percentage points [95 % interval, paired]"
        parts.append(heading.format(escape(title)) + table(differences))
    return "\n\n".join(parts)


def csv_rows(comparison: Comparison) -> Iterator[list[Any]]:
    """List every value of every model; columns ``CSV_COLUMNS``."""
    for run in comparison.runs:
        for model, metrics in run.models.items():
            found = comparison.differences.get(run.title, {}) if model == EVALUATED else {}
            for name, metric in metrics.items():
                chance = math.nan if metric.chance is None else metric.chance
                gain = _bounds(found[name]) if name in found else 3 * [math.nan]
                named = [run.title, str(run.folder), model, name, metric.unit]
                yield [*named, *_bounds(metric), metric.n, chance, *gain]


def as_json(comparison: Comparison, *, command: str, seed: int) -> dict[str, Any]:
    """Return plain data: values, differences, what they come from."""
    return {
        "kind": KIND,
        "evaluation": comparison.runs[0].kind,
        "runs": {
            run.title: {
                "folder": str(run.folder),
                **_sources(run),
                "models": {name: metrics_json(metrics) for name, metrics in run.models.items()},
            }
            for run in comparison.runs
        },
        "first": comparison.runs[0].title,
        "differences": {title: metrics_json(metrics) for title, metrics in comparison.differences.items()},
        "notes": list(comparison.notes),
        "provenance": {"command": command, "seed": seed, "versions": versions()},
    }


def _sources(run: Run) -> dict[str, Any]:
    files = {key: sha256_file(result.path) for key, result in run.results.items()}
    first = next(iter(run.results.values()))
    return {
        "metrics_sha256": files if run.is_checkpoint else files[run.kind],
        "checkpoint": first.content.get("checkpoint"),
        "data": run.data if run.is_checkpoint else run.data[run.kind],
    }


def write_comparison(
    folder: Path, comparison: Comparison, *, content: Mapping[str, Any], force: bool = False
) -> None:
    """Write ``FILE_NAMES`` into a folder; ``content`` comes from ``as_json``."""
    paths = markdown, latex, table, plain = [folder / name for name in FILE_NAMES]
    with all_or_none(*paths, force=force):
        for path, text in ((markdown, as_markdown(comparison)), (latex, as_latex(comparison))):
            write_text(path, text, force=force)
        write_table(table, CSV_COLUMNS, csv_rows(comparison), force=force)
        write_metrics(plain, content, force=force)


def _measures(runs: Sequence[Run]) -> list[str]:
    """List those of the evaluated models, then those that only a baseline has (MFCC's one layer)."""
    models = [run.models[EVALUATED] for run in runs]
    models += [metrics for run in runs for metrics in run.models.values()]
    return list(dict.fromkeys(name for metrics in models for name in metrics))


def _baseline_columns(runs: Sequence[Run]) -> Iterator[_Column]:
    """Make a column per baseline; runs share it if their values agree in common measures."""

    def agree(own: _Metrics, other: _Metrics) -> bool:
        shared = own.keys() & other
        return bool(shared) and all(own[name].as_json() == other[name].as_json() for name in shared)

    for name in dict.fromkeys(name for run in runs for name in list(run.models)[1:]):
        found = [(run.title, run.models[name]) for run in runs if name in run.models]
        yield from _shared_columns(name, found, agree, str)


def _chance_columns(runs: Sequence[Run]) -> Iterator[_Column]:
    def agree(own: _Metrics, other: _Metrics) -> bool:
        return all(own[name].chance == other[name].chance for name in own.keys() & other)

    found = [
        (run.title, {name: metric for metrics in run.models.values() for name, metric in metrics.items()})
        for run in runs
    ]
    return _shared_columns("chance", found, agree, _chance)


def _shared_columns(
    name: str,
    found: Sequence[tuple[str, _Metrics]],
    agree: Callable[[_Metrics, _Metrics], bool],
    write: Callable[[Metric], str],
) -> Iterator[_Column]:
    versions: list[tuple[str, dict[str, Metric]]] = []
    for title, own in found:
        for _, other in versions:
            if agree(own, other):
                other.update(own)  # of a run with folds, or other layers, as well
                break
        else:
            versions.append((title, dict(own)))
    for title, metrics in versions:
        yield name if len(versions) == 1 else f"{name} ({title})", _metric_cell(metrics, write)


def _chance(metric: Metric) -> str:
    return NOTHING if metric.chance is None else metric.rounded(metric.chance)


def _table(columns: Sequence[_Column], measures: Sequence[str], runs: Sequence[Run]) -> Rows:
    titles = {measure: title for run in runs for measure, title in run.titles.items()}
    rows = [["", *(title for title, _ in columns)]]
    return [*rows, *([titles.get(name, name), *(cell(name) for _, cell in columns)] for name in measures)]


def _metric_cell(metrics: Mapping[str, Metric], write: Callable[[Metric], str]) -> Callable[[str], str]:
    return lambda measure: write(metrics[measure]) if measure in metrics else NOTHING


def _bounds(metric: Metric) -> list[float]:
    return [metric.value.value, metric.value.low, metric.value.high]


def _described(run: Run) -> str:
    """Describe what was measured, and what its intervals resample."""
    parts = []
    for result in run.results.values():
        line = EVALUATORS[result.kind]().describe(result.content)[0]
        own = next(iter(result.models[result.evaluated].values()))
        parts.append(f"{line} [95 % interval {own.value.method.partition(' ')[2]}]")
    return "; ".join(parts)
