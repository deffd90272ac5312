"""A study's tables, figures and verdicts, and one page with all of them.

All files are derived from ``StudyResults`` and replaced by every call, also while the study is running;
missing values are dashes.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import fairseq_vgs
from fairseq_vgs.evaluation.results import write_table
from fairseq_vgs.files.atomic import write_text
from fairseq_vgs.files.text_tables import latex_document
from fairseq_vgs.metrics.intervals import N_RESAMPLES
from fairseq_vgs.report.page import render_page
from fairseq_vgs.report.plots import Figure, inline_svg, write_figure
from fairseq_vgs.study import contrasts, tables
from fairseq_vgs.study.answers import answer_figures
from fairseq_vgs.study.decisions import CONTRADICTED, EQUIVALENT, SUPPORTED, UNDECIDED
from fairseq_vgs.study.declared import declaration_rows, read_declared
from fairseq_vgs.study.figures import SCENARIO_COLOURS, css_name, scenario_charts, study_figures
from fairseq_vgs.study.plan import StudyFolder
from fairseq_vgs.study.recipe import recipe_words, shown
from fairseq_vgs.study.results import StudyResults
from fairseq_vgs.study.statistics import Sampler
from fairseq_vgs.study.verdicts import NOT_DECIDABLE, Verdict, judge, not_run

PAGE_NAME = "report.html"

OTHER_FORMATS = (".pdf", ".svg")
_STATES = {
    SUPPORTED: "yes",
    CONTRADICTED: "no",
    EQUIVALENT: "same",
    UNDECIDED: "open",
    NOT_DECIDABLE: "open",
    contrasts.CANNOT_TELL: "open",
    contrasts.BETTER: "yes",
    contrasts.WORSE: "no",
}
_NOT_MEASURED = {
    "abx": "Phone discrimination was not run: the study file has no abx.",
    "lexical": "The lexical test was not run: the study file has no lexical.",
}


def write_all(results: StudyResults, folder: Path) -> Path:
    """Write ``results/`` and ``report.html``, replacing older ones; return the path of the page.

    ``results/`` holds ``retrieval`` and, if the study has them, ``abx`` and ``lexical`` as ``.csv``, ``.md``
    and ``.tex``, and ``contrasts`` as ``.json``, ``.md`` and ``.tex``; ``tables.tex``, a document with all of
    these tables; ``points.csv`` with every value of every checkpoint; ``verdicts.json`` and ``.md``; and each
    figure as ``.png``, ``.pdf`` and ``.svg`` with its ``.csv``.
    """
    sampler = Sampler()
    target = folder / "results"
    written = _write_tables(results, target, sampler)
    verdicts = _write_verdicts(results, target, sampler)
    found = contrasts.find_contrasts(results, sampler)
    if found:
        _write_contrasts(found, target)
    _write_document(written, found, target)
    figures, charts = study_figures(results), list(scenario_charts(results))
    if drawn := contrasts.contrasts_figure(contrasts.shown(found)):
        figures.insert(0, drawn)
    answers = answer_figures(results, verdicts, sampler)
    for figure in (*answers, *figures, *map(_as_file, charts)):
        write_figure(figure, target / f"{figure.name}.png", also=OTHER_FORMATS, force=True)
    pictures = [(figure, target / f"{figure.name}.png") for figure in figures]
    declarations = declaration_rows(read_declared(StudyFolder(folder)))
    page = _render(results, verdicts, written, found, pictures, charts, answers, declarations)
    write_text(folder / PAGE_NAME, page, force=True)
    return folder / PAGE_NAME


def _write_tables(results: StudyResults, target: Path, sampler: Sampler) -> list[tables.Table]:
    kinds = [("retrieval", tables.retrieval_table(results, sampler), tables.RETRIEVAL_WRITTEN)]
    if results.settings.abx is not None:
        kinds.append(("abx", tables.abx_table(results, sampler), tables.phone_measures(results)))
    if results.settings.lexical is not None:
        kinds.append(("lexical", tables.lexical_table(results, sampler), (tables.WORDS,)))
    for name, table, measures in kinds:
        header, rows = tables.csv_rows(table, measures, results.settings.seeds)
        write_table(target / f"{name}.csv", header, rows, force=True)
        write_text(target / f"{name}.md", tables.markdown(table), force=True)
        write_text(target / f"{name}.tex", tables.latex(table), force=True)
    write_table(target / "points.csv", tables.POINT_COLUMNS, tables.point_rows(results), force=True)
    return [table for _, table, _ in kinds]


def _write_contrasts(found: Sequence[contrasts.Contrast], target: Path) -> None:
    content = [one.as_json() for one in found]
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(target / f"{contrasts.NAME}.json", text + "\n", force=True)
    write_text(target / f"{contrasts.NAME}.md", contrasts.markdown(contrasts.shown(found)), force=True)
    write_text(target / f"{contrasts.NAME}.tex", contrasts.latex(contrasts.shown(found)), force=True)


def _write_document(
    written: Sequence[tables.Table], found: Sequence[contrasts.Contrast], target: Path
) -> None:
    entries = [(f"{table.title}. {table.caption}", tables.latex(table)) for table in written]
    if found:
        entries.append((f"{contrasts.TITLE}. {contrasts.CAPTION}", contrasts.latex(contrasts.shown(found))))
    write_text(target / "tables.tex", latex_document(entries), force=True)


def _as_file(chart: Figure) -> Figure:
    """Give a chart of the page, which has check boxes and tooltips, a legend."""
    (panel,) = chart.panels
    series = [replace(line, tips=(), css_class="") for line in panel.series]
    return replace(chart, panels=[replace(panel, title=chart.title, series=series)], legend="panel")


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
    found: Sequence[contrasts.Contrast],
    figures: Sequence[tuple[Figure, Path]],
    charts: Sequence[Figure],
    answers: Sequence[Figure],
    declarations: Sequence[tuple[str, int, list[str]]],
) -> str:
    settings = results.settings
    scenarios = [
        {"name": css_name(name), "title": settings.title(name), "colour": colour}
        for name, colour in zip(settings.names, cycle(SCENARIO_COLOURS), strict=False)
    ]
    return render_page(
        "study.html.j2",
        scenarios=scenarios,
        n_seeds=len(settings.seeds),
        n_planned=len(settings.names) * len(settings.seeds),
        n_done=sum(len(results.finals(scenario)) for scenario in settings.names),
        recipe=recipe_words(results.recipe),
        recipe_settings=list(shown(results.recipe)),
        verdicts=verdicts,
        not_run=not_run(settings),
        answers={
            verdict.question.name: [
                (figure, _as_markup(figure, figure.name, figure.title))
                for figure in answers
                if figure.name.partition("_")[2] == verdict.question.name
            ]
            for verdict in verdicts
        },
        declarations=declarations,
        own_questions=bool(settings.questions),
        split=settings.split,
        is_pilot=settings.split == settings.pilot.split,
        states=_STATES,
        tables=written,
        not_measured=[text for name, text in _NOT_MEASURED.items() if getattr(settings, name) is None],
        contrasts=contrasts.shown(found),
        contrasts_note=contrasts.NOTE,
        cutoff=results.recall_cutoffs[-1],
        charts=[(chart, _inline(number, chart)) for number, chart in enumerate(charts, start=1)],
        formats=(".png", *OTHER_FORMATS, ".csv"),
        figures=[(figure, b64encode(path.read_bytes()).decode()) for figure, path in figures],
        missing=results.missing,
        settings=list(_flat(settings.as_json())),
        facts=list(_flat(results.facts)),
        has_words=settings.lexical is not None,
        has_scenes=settings.prepare[:1] == ["scenes"],  # their splits share objects
        n_resamples=N_RESAMPLES,
        version=fairseq_vgs.__version__,
    )


def _inline(number: int, chart: Figure) -> Any:
    return _as_markup(chart, f"chart-{number}", f"{chart.title}: curves over updates")


def _as_markup(figure: Figure, name: str, title: str) -> Any:
    from markupsafe import Markup

    return Markup(inline_svg(figure, name=name, title=title))


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
