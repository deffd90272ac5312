"""A study's tables, figures and verdicts, and one page with all of them.

All files are derived from ``StudyResults`` and replaced by every call, also while the study is running;
missing values are dashes.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import fairseq_vgs
from fairseq_vgs.evaluation.results import write_table
from fairseq_vgs.files.atomic import write_text
from fairseq_vgs.metrics.intervals import N_RESAMPLES
from fairseq_vgs.report.page import render_page
from fairseq_vgs.report.plots import Figure, inline_svg, write_figure
from fairseq_vgs.study import tables
from fairseq_vgs.study.figures import SCENARIO_COLOURS, scenario_charts, study_figures
from fairseq_vgs.study.recipe import recipe_words, shown
from fairseq_vgs.study.results import StudyResults
from fairseq_vgs.study.settings import scenario_title
from fairseq_vgs.study.statistics import Sampler
from fairseq_vgs.study.verdicts import CANNOT_TELL, DOES_NOT_HOLD, HOLDS, Verdict, judge

PAGE_NAME = "report.html"

_STATES = {HOLDS: "yes", DOES_NOT_HOLD: "no", CANNOT_TELL: "open"}


def write_all(results: StudyResults, folder: Path) -> Path:
    """Write ``results/`` and ``report.html``, replacing older ones; return the path of the page.

    ``results/`` holds ``retrieval`` and ``abx`` as ``.csv``, ``.md`` and ``.tex``, ``points.csv`` with every
    value of every checkpoint, ``verdicts.json`` and ``.md``, and each figure as ``.png`` with its ``.csv``.
    """
    sampler = Sampler()
    target = folder / "results"
    written = _write_tables(results, target, sampler)
    verdicts = _write_verdicts(results, target, sampler)
    figures = [(figure, target / f"{figure.name}.png") for figure in study_figures(results)]
    for figure, path in figures:
        write_figure(figure, path, force=True)
    write_text(folder / PAGE_NAME, _render(results, verdicts, written, figures), force=True)
    return folder / PAGE_NAME


def _write_tables(results: StudyResults, target: Path, sampler: Sampler) -> list[tables.Table]:
    kinds = (
        ("retrieval", tables.retrieval_table(results, sampler), tables.RETRIEVAL_WRITTEN),
        ("abx", tables.abx_table(results, sampler), tables.phone_measures(results)),
    )
    for name, table, measures in kinds:
        header, rows = tables.csv_rows(table, measures, results.settings.seeds)
        write_table(target / f"{name}.csv", header, rows, force=True)
        write_text(target / f"{name}.md", tables.markdown(table), force=True)
        write_text(target / f"{name}.tex", tables.latex(table), force=True)
    write_table(target / "points.csv", tables.POINT_COLUMNS, tables.point_rows(results), force=True)
    return [table for _, table, _ in kinds]


def _write_verdicts(results: StudyResults, target: Path, sampler: Sampler) -> list[Verdict]:
    verdicts = judge(results, sampler)
    content = [verdict.as_json() for verdict in verdicts]
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(target / "verdicts.json", text + "\n", force=True)
    write_text(target / "verdicts.md", "".join(f"- {verdict.sentence}\n" for verdict in verdicts), force=True)
    return verdicts


def _render(
    results: StudyResults,
    verdicts: Sequence[Verdict],
    written: Sequence[tables.Table],
    figures: Sequence[tuple[Figure, Path]],
) -> str:
    settings = results.settings
    scenarios = [
        {"name": name, "title": scenario_title(name), "colour": colour}
        for name, colour in zip(settings.scenarios, SCENARIO_COLOURS, strict=False)
    ]
    return render_page(
        "study.html.j2",
        scenarios=scenarios,
        n_seeds=len(settings.seeds),
        n_planned=len(settings.scenarios) * len(settings.seeds),
        n_done=sum(len(results.finals(scenario)) for scenario in settings.scenarios),
        recipe=recipe_words(results.recipe),
        recipe_settings=list(shown(results.recipe)),
        verdicts=verdicts,
        states=_STATES,
        tables=written,
        charts=list(_charts(results)),
        figures=[(figure, b64encode(path.read_bytes()).decode()) for figure, path in figures],
        missing=results.missing,
        settings=list(_flat(settings.as_json())),
        facts=list(_flat(results.facts)),
        has_scenes=settings.prepare[:1] == ["scenes"],  # their splits share objects
        n_resamples=N_RESAMPLES,
        version=fairseq_vgs.__version__,
    )


def _charts(results: StudyResults) -> Iterator[tuple[str, Any]]:
    from markupsafe import Markup

    for number, chart in enumerate(scenario_charts(results), start=1):
        drawn = inline_svg(chart, name=f"chart-{number}", title=f"{chart.title}: curves over updates")
        yield chart.title, Markup(drawn)


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """List nested settings as (name, text); a list becomes one text."""
    for key, value in values.items():
        name = f"{before}{str(key).replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}: ")
        elif isinstance(value, Sequence) and not isinstance(value, str):
            yield name, " ".join(str(entry) for entry in value) or "none"
        else:
            yield name, "none" if value is None else str(value)
