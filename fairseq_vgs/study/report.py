"""Everything that people read of a study: tables, figures, verdicts and one page that holds them all.

Nothing is measured here. All files are derived from `StudyResults` and replaced at every call, also while the
study is still running: what is not there yet is a dash.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from importlib import resources
from pathlib import Path
from string import Template

import fairseq_vgs
from fairseq_vgs.evaluation.results import write_table
from fairseq_vgs.files.atomic import atomic_write
from fairseq_vgs.study import report_parts as parts
from fairseq_vgs.study.figure_drawing import Figure, write_figure
from fairseq_vgs.study.figures import study_figures
from fairseq_vgs.study.recipe import recipe_words
from fairseq_vgs.study.results import StudyResults
from fairseq_vgs.study.statistics import N_RESAMPLES, Sampler
from fairseq_vgs.study.tables import (
    POINT_COLUMNS,
    RETRIEVAL_WRITTEN,
    Table,
    abx_table,
    csv_rows,
    latex,
    markdown,
    phone_measures,
    point_rows,
    retrieval_table,
)
from fairseq_vgs.study.verdicts import Verdict, judge

REPORT_NAME = "report.html"
RESULTS_NAME = "results"
VERDICTS_NAME = "verdicts.json"


def write_all(results: StudyResults, folder: Path) -> Path:
    """Write ``results/`` (tables, figures, verdicts) and ``report.html``; what was there is replaced.

    ``results/`` holds ``retrieval`` and ``abx`` as ``.csv``, ``.md`` and ``.tex``, ``points.csv`` with every
    number of every checkpoint, ``verdicts.json`` and ``.md``, and each figure as ``.png`` with its ``.csv``.

    Returns:
        Path of the page.
    """
    sampler = Sampler()
    target = folder / RESULTS_NAME
    tables = _write_tables(results, target, sampler)
    verdicts = _write_verdicts(results, target, sampler)
    figures = study_figures(results)
    for figure in figures:
        write_figure(figure, target / f"{figure.name}.png")
    return _write_page(results, folder / REPORT_NAME, verdicts, tables, figures, target)


def _write_tables(results: StudyResults, target: Path, sampler: Sampler) -> list[Table]:
    kinds = (
        ("retrieval", retrieval_table(results, sampler), RETRIEVAL_WRITTEN),
        ("abx", abx_table(results, sampler), phone_measures(results)),
    )
    for name, table, measures in kinds:
        header, rows = csv_rows(table, measures, results.settings.seeds)
        write_table(target / f"{name}.csv", header, rows, force=True)
        _write_text(target / f"{name}.md", markdown(table))
        _write_text(target / f"{name}.tex", latex(table))
    write_table(target / "points.csv", POINT_COLUMNS, point_rows(results), force=True)
    return [table for _, table, _ in kinds]


def _write_verdicts(results: StudyResults, target: Path, sampler: Sampler) -> list[Verdict]:
    verdicts = judge(results, sampler)
    content = [verdict.as_json() for verdict in verdicts]
    _write_text(
        target / VERDICTS_NAME, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    )
    _write_text(target / "verdicts.md", "".join(f"- {verdict.sentence}\n" for verdict in verdicts))
    return verdicts


def _write_page(
    results: StudyResults,
    output: Path,
    verdicts: Sequence[Verdict],
    tables: Sequence[Table],
    figures: Sequence[Figure],
    pictures: Path,
) -> Path:
    files = resources.files("fairseq_vgs.study")
    template = Template(files.joinpath("report.html").read_text(encoding="utf-8"))
    page = template.substitute(
        style=files.joinpath("report.css").read_text(encoding="utf-8") + parts.scenario_rules(results),
        summary=_summary(results),
        state=_state(results),
        recipe=escape(recipe_words(results.recipe)),
        scope=_scope(results),
        verdicts="\n".join(parts.verdict_card(verdict) for verdict in verdicts),
        tables="\n".join(parts.table_html(table) for table in tables),
        curves=parts.charts_html(results),
        figures="\n".join(parts.figure_html(figure, pictures / f"{figure.name}.png") for figure in figures),
        run=parts.run_html(results),
        interval=_interval_words(results),
        n_resamples=N_RESAMPLES,
        version=escape(fairseq_vgs.__version__),
    )
    _write_text(output, page)
    return output


def _summary(results: StudyResults) -> str:
    settings = results.settings
    n_scenarios, n_seeds = len(settings.scenarios), len(settings.seeds)
    return (
        "How self-supervised learning on speech alone (W2V2) and learning from speech with pictures (VGS) "
        "work together: one after the other, (A, B), or both at once, VGS+; after Khorrami et al. (2023). "
        f"{_count(n_scenarios, 'scenario')}, each with {_count(n_seeds, 'seed')}."
    )


def _state(results: StudyResults) -> str:
    planned = len(results.settings.scenarios) * len(results.settings.seeds)
    done = sum(len(results.finals(scenario)) for scenario in results.settings.scenarios)
    if done == planned:
        return ""
    return (
        f'<p class="warning">The study has not finished: {done} of {planned} runs have been trained and '
        "evaluated to their end. What follows is what there is so far.</p>"
    )


def _interval_words(results: StudyResults) -> str:
    if len(results.settings.seeds) > 1:
        return (
            "It holds two sources of chance: training again with another seed (Student's t over the seeds), "
            f"and testing on other {_items(results)}. The second is partly in the first, too, so that the "
            "interval is rather too wide than too narrow"
        )
    return (
        f"It holds one source of chance, testing on other {_items(results)}; with one seed, how much one "
        "training run differs from the next is unknown and not in it, so that it is too narrow"
    )


def _items(results: StudyResults) -> str:
    return "scenes of the same objects, or other phones" if _has_scenes(results) else "items"


def _scope(results: StudyResults) -> str:
    words = "a verdict is about these data, this model and this length of training."
    if _has_scenes(results):
        words += (
            " Test scenes are other scenes of the same objects as those of training: nothing here is about "
            "objects that were never seen or named."
        )
    return words


def _has_scenes(results: StudyResults) -> bool:
    """Whether the data are ``prepare scenes``', whose splits share their objects."""
    return results.settings.prepare[:1] == ["scenes"]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _write_text(path: Path, text: str) -> None:
    with atomic_write(path, force=True) as file:
        file.write(text)
