"""The pieces of a study's page as HTML; every text is escaped."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from fairseq_vgs.report.run_logs import Curve
from fairseq_vgs.study.curves import (
    abx_levels,
    boundary,
    loss,
    point_curves,
    recall_at_10,
    untrained_mean,
)
from fairseq_vgs.study.figure_drawing import Figure
from fairseq_vgs.study.recipe import recipe_words, shown
from fairseq_vgs.study.report_chart import Chart, ChartLine, render_chart
from fairseq_vgs.study.results import StudyResults
from fairseq_vgs.study.settings import scenario_title
from fairseq_vgs.study.statistics import Estimate, Measure
from fairseq_vgs.study.tables import Row, Table, plain
from fairseq_vgs.study.verdicts import DOES_NOT_HOLD, HOLDS, Line, Verdict, signed, signed_interval

# Tol's "muted" colours: nine that are told apart with any kind of colour vision.
_COLOURS = (
    "#332288", "#CC6677", "#117733", "#88CCEE", "#DDCC77", "#AA4499", "#44AA99", "#882255", "#999933",
)  # fmt: skip
_CLASSES = {HOLDS: "yes", DOES_NOT_HOLD: "no"}


def verdict_card(verdict: Verdict) -> str:
    """Show a verdict: claim, answer, number, and what else was measured."""
    number = ""
    if verdict.difference is not None:
        text = escape(signed_interval(verdict.difference, verdict.finding.measure))
        seeds = _seeds(verdict.difference, verdict.finding.measure, signed)
        number = f'<p>{escape(verdict.what)}: <span class="number">{text}</span> {seeds}</p>'
    remarks = "".join(f"<p>{escape(remark)}</p>" for remark in verdict.remarks)
    lines = "".join(_verdict_line(line) for line in verdict.lines)
    return f"""<article class="verdict {_CLASSES.get(verdict.answer, "open")}">
<h3>{escape(verdict.finding.claim)}</h3>
<p class="answer">{escape(verdict.answer.capitalize())}.</p>
{number}
{remarks}
{f"<dl>{lines}</dl>" if lines else ""}
</article>"""


def table_html(table: Table) -> str:
    """Show a table; the best mean of every column is bold, every seed's value stands below its mean."""
    heads = "".join(
        f'<th scope="col">{escape(measure.title)}, {measure.unit}</th>' for measure in table.measures
    )
    best = {measure.name: table.best(measure) for measure in table.measures}
    rows = "\n".join(_table_row(table, row, best) for row in table.rows)
    title = escape(table.title)
    return f"""<h3>{title}</h3>
<p class="note">{escape(table.note)}</p>
<div class="scroll" tabindex="0" role="region" aria-label="{title}">
<table>
<thead><tr><td></td>{heads}<th scope="col">seeds</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
</div>"""


def scenario_rules(results: StudyResults) -> str:
    """CSS: every scenario's colour, and that its lines show while its box is ticked."""
    rules = []
    for scenario, colour in zip(results.settings.scenarios, _COLOURS, strict=False):
        rules.append(f".s-{scenario} {{ stroke: {colour}; fill: {colour}; }}")
        rules.append(f".swatch.s-{scenario} {{ background: {colour}; }}")
        rules.append(f"#curves:has(#show-{scenario}:not(:checked)) g.s-{scenario} {{ display: none; }}")
    return "\n".join([*rules, ""])


def charts_html(results: StudyResults) -> str:
    """Show all scenarios' means together, with a box to tick for each of them; no scripts."""
    charts = [_chart_figure(chart) for chart in _charts(results)]
    if not charts:
        return '<p class="note">Nothing has been evaluated yet.</p>'
    boxes = [
        f'<label><input type="checkbox" id="show-{scenario}" checked>'
        f'<span class="swatch s-{scenario}"></span>{escape(scenario_title(scenario))}</label>'
        for scenario in results.settings.scenarios
    ]
    return f"""<p class="note">Means over seeds. A scheduled scenario begins where it leaves its base run.
Point at a line for its numbers.</p>
<fieldset class="choices"><legend>Scenarios shown</legend>
{chr(10).join(boxes)}
</fieldset>
<div class="charts">
{chr(10).join(charts)}
</div>"""


def figure_html(figure: Figure, picture: Path) -> str:
    """Show a PNG, embedded."""
    data = base64.b64encode(picture.read_bytes()).decode("ascii")
    title, note = escape(figure.title), escape(figure.note)
    return f"""<h3>{title}</h3>
<figure class="figure"><div class="scroll" tabindex="0" role="region" aria-label="{title}">
<img src="data:image/png;base64,{data}" alt="{title}, one panel per scenario"></div>
<figcaption>{note}</figcaption></figure>"""


def run_html(results: StudyResults) -> str:
    """Show settings, circumstances and what is missing."""
    settings = _definitions(_flat(results.settings.as_json()))
    facts = _definitions(_flat(results.facts))
    missing = "".join(f"<li>{escape(entry)}</li>" for entry in results.missing)
    left = f"<h3>Missing</h3><ul>{missing}</ul>" if missing else "<p>Nothing is missing.</p>"
    recipe = f"<p>{escape(recipe_words(results.recipe))}</p>\n{_definitions(shown(results.recipe))}"
    return (
        f"{left}\n<h3>Model and losses</h3>\n{recipe}\n<h3>Settings</h3>\n{settings}\n"
        f"<h3>Data, protocol, machine</h3>\n{facts}"
    )


def _verdict_line(line: Line) -> str:
    text = signed_interval(line.estimate, line.measure) if line.is_difference else _interval(line)
    seeds = _seeds(line.estimate, line.measure, signed if line.is_difference else plain)
    return f"<dt>{escape(line.label)}</dt><dd>{escape(text)} {seeds}</dd>"


def _seeds(found: Estimate, measure: Measure, write: Callable[[float, Measure], str]) -> str:
    values = " · ".join(write(value, measure) for value in found.per_seed.values())
    return f"<small>seeds: {escape(values)}</small>" if found.seeds_measured else ""


def _interval(line: Line) -> str:
    value, low, high = (
        plain(number, line.measure) for number in (line.estimate.value, line.estimate.low, line.estimate.high)
    )
    return f"{value} {line.measure.unit} [{low}, {high}]"


def _table_row(table: Table, row: Row, best: Mapping[str, float | None]) -> str:
    cells = []
    for measure in table.measures:
        found = row.estimates.get(measure.name)
        is_best = found is not None and found.value == best[measure.name] and row.is_scenario
        marked = ' class="best"' if is_best else ""
        seeds = row.seeds_cell(measure)
        below = f"<small>{escape(seeds)}</small>" if seeds else ""
        cells.append(f"<td><span{marked}>{escape(row.cell(measure))}</span>{below}</td>")
    kind = "" if row.is_scenario else ' class="constant"'
    return f'<tr{kind}><th scope="row">{escape(row.title)}</th>{"".join(cells)}<td>{row.seeds_text}</td></tr>'


def _charts(results: StudyResults) -> Iterator[Chart]:
    recall_chance = [
        results.chance[f"{way}_r10"]
        for way in ("speech_to_image", "image_to_speech")
        if f"{way}_r10" in results.chance
    ]
    untrained = untrained_mean(results, lambda point: point.best_abx)
    phone_levels = [*abx_levels(results), *([("untrained", untrained)] if untrained is not None else [])]
    kinds: tuple[tuple[str, Any, list[tuple[str, float]], tuple[float, float] | None, int], ...] = (
        (
            "R@10, mean of both directions, %",
            recall_at_10,
            [("chance", sum(recall_chance) / 2)] if len(recall_chance) == 2 else [],
            (0.0, 100.0),
            1,
        ),
        (
            "Phone ABX error within speaker, best layer, %",
            lambda point: point.best_abx,
            phone_levels,
            None,
            1,
        ),
        ("VGS loss on the validation split, nats per item", loss("vgs_loss"), [], None, 2),
        ("SSL loss on the validation split, nats per item", loss("ssl_loss"), [], None, 2),
    )
    for title, value, levels, limits, decimals in kinds:
        lines = []
        for scenario in results.settings.scenarios:
            mean = point_curves(results, scenario, value).mean
            if mean is not None:
                kept = mean.updates >= (boundary(results, scenario) or 0)
                if kept.any():
                    curve = Curve(mean.updates[kept], mean.values[kept])
                    lines.append(ChartLine(scenario, scenario_title(scenario), curve))
        if lines:
            yield Chart(title, lines, levels, limits, decimals)


def _chart_figure(chart: Chart) -> str:
    title = escape(chart.title)
    return (
        f'<figure><figcaption>{title}</figcaption><div class="scroll" tabindex="0" role="region" '
        f'aria-label="{title}">{render_chart(chart)}</div></figure>'
    )


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """List nested settings as (name, text); lists become one text."""
    for key, value in values.items():
        name = f"{before}{str(key).replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}: ")
        elif isinstance(value, Sequence) and not isinstance(value, str):
            yield name, " ".join(str(entry) for entry in value) or "none"
        else:
            yield name, "none" if value is None else str(value)


def _definitions(entries: Iterable[tuple[str, str]]) -> str:
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in entries)
    return f"<dl>{rows}</dl>" if rows else '<p class="note">Nothing is recorded.</p>'
