"""The paper's tables for a study's data, and one long table of every evaluated checkpoint.

Table I (retrieval) and the ABX table of Khorrami et al. (2023): scenarios at the end of training, with means
over seeds, intervals (``study.statistics``) and the values of the seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fairseq_vgs.evaluation.evaluators.abx import ABX_KEYS
from fairseq_vgs.evaluation.evaluators.lexical import KIND as LEXICAL
from fairseq_vgs.files.text_tables import bold, latex_table, markdown_table
from fairseq_vgs.metrics.retrieval import DIRECTIONS, RECALL_CUTOFFS
from fairseq_vgs.study.results import LAYERED, MOST_CHANCE, UNTRAINED, StudyResults
from fairseq_vgs.study.statistics import MEASURES, Estimate, Measure, Sampler, difference, estimate

NOTHING = "–"

_WRITTEN = [f"{way}_r{k}" for way in DIRECTIONS for k in RECALL_CUTOFFS]
_WRITTEN += [f"{way}_{kind}" for kind in ("mrr", "median_rank") for way in DIRECTIONS]
RETRIEVAL_WRITTEN = tuple(MEASURES[name] for name in (*_WRITTEN, "r10", "r1", "mrr", "median_rank"))
PHONES = tuple(MEASURES[key] for key in ABX_KEYS.values())
WORDS = MEASURES[LEXICAL]
_BOLD = (
    "Bold: above chance with the whole interval, and not to be told apart from the best mean (paired "
    "difference); nothing else."
)

POINT_COLUMNS = ("scenario", "seed", "phase", "update", "measure", "layer", "value", "chance")


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        name: scenario, "untrained", "chance" or a baseline.
        estimates: measure -> mean over seeds; measures without one are left out.
        constants: measure -> value without seeds, such as chance.
        layers: measure -> seed -> best layer.
        n_planned: number of planned seeds; 0 for constants.
    """

    name: str
    title: str
    estimates: Mapping[str, Estimate] = field(default_factory=dict)
    constants: Mapping[str, float] = field(default_factory=dict)
    layers: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    n_planned: int = 0

    @property
    def is_scenario(self) -> bool:
        """Whether this row is a trained scenario."""
        return self.n_planned > 0 and self.name != UNTRAINED

    @property
    def n_seeds(self) -> int:
        """Seeds in the means."""
        return max((len(found.per_seed) for found in self.estimates.values()), default=0)

    def cell(self, measure: Measure) -> str:
        """Write a value with its interval, or a dash."""
        found = self.estimates.get(measure.name)
        if found is not None:
            return measure.interval(found)
        return measure.text(self.constants[measure.name]) if measure.name in self.constants else NOTHING

    def seeds_cell(self, measure: Measure) -> str:
        """Write the value of every seed (and its best layer), unless the mean says the same."""
        found = self.estimates.get(measure.name)
        layers = self.layers.get(measure.name, {})
        if found is None or not (layers or found.seeds_measured):
            return ""
        numbers = {seed: f" ({layer.removeprefix('layer_')})" for seed, layer in layers.items()}
        values = found.per_seed.items()
        return " · ".join(f"{measure.text(value)}{numbers.get(seed, '')}" for seed, value in values)

    @property
    def seeds_text(self) -> str:
        """Write the number of seeds, "2 of 3" while some are missing."""
        if not self.n_planned:
            return ""
        return str(self.n_seeds) if self.n_seeds == self.n_planned else f"{self.n_seeds} of {self.n_planned}"


@dataclass(frozen=True)
class Table:
    """Rows over measures; ``best`` holds the names of row and measure of what is shown in bold.

    ``note`` says how to read the table, ``caption`` the same where the seeds' values are not shown.
    """

    title: str
    note: str
    measures: tuple[Measure, ...]
    rows: tuple[Row, ...]
    best: frozenset[tuple[str, str]] = frozenset()
    caption: str = ""

    def is_best(self, row: Row, measure: Measure) -> bool:
        """Whether a scenario's mean is one of the best, and better than chance."""
        return (row.name, measure.name) in self.best


def retrieval_table(results: StudyResults, sampler: Sampler) -> Table:
    """Make the paper's Table I: retrieval in both directions, then the untrained model and chance.

    Shown are R@1, R@k of the largest k that suits the pool (``StudyResults.recall_cutoffs``), and the median
    rank.
    """
    kinds = dict.fromkeys((1, results.recall_cutoffs[-1]))
    names = [f"{way}_{kind}" for way in DIRECTIONS for kind in (*(f"r{k}" for k in kinds), "median_rank")]
    shown, rows = tuple(MEASURES[name] for name in names), _rows(results, RETRIEVAL_WRITTEN, sampler)
    note, caption = (
        " ".join(filter(None, (_note(rows, "pictures", below), left_out(results))))
        for below in ("every seed's value", "")
    )
    all_rows = (*rows, _chance(results, RETRIEVAL_WRITTEN))
    best = _best(results, all_rows, shown, sampler)
    return Table("Speech-image retrieval", note, shown, all_rows, best, caption)


def left_out(results: StudyResults) -> str:
    """Say which R@k are not shown since the pool is too small for them; empty if all are."""
    names = [f"R@{k}" for k in RECALL_CUTOFFS if k not in results.recall_cutoffs]
    if not names:
        return ""
    reached = f"a random order reaches more than {MOST_CHANCE:g} %"
    return f"Not shown, as the pool is too small: {' and '.join(names)}, of which {reached}."


def abx_table(results: StudyResults, sampler: Sampler) -> Table:
    """Make the paper's ABX table: the best layer's error, then baselines and chance."""
    baselines = {"abx": results.baselines}
    return _layered("Phone discrimination", "phones", results, phone_measures(results), baselines, sampler)


def lexical_table(results: StudyResults, sampler: Sampler) -> Table:
    """Make the table of the lexical test: the best layer's recall of words, then baselines and chance."""
    baselines = {LEXICAL: results.lexical_baselines}
    return _layered("Word discrimination", "words", results, (WORDS,), baselines, sampler)


def _layered(
    title: str,
    items: str,
    results: StudyResults,
    measures: tuple[Measure, ...],
    baselines: Mapping[str, Mapping[str, float]],
    sampler: Sampler,
) -> Table:
    rows = _rows(results, measures, sampler)
    others = [
        Row(name, name.upper(), constants={measure: value})
        for measure, found in baselines.items()
        for name, value in sorted(found.items())
    ]
    note, caption = (_note(rows, items, below) for below in ("every seed's value (its best layer)", ""))
    all_rows = (*rows, *others, _chance(results, measures))
    return Table(title, note, measures, all_rows, _best(results, all_rows, measures, sampler), caption)


def _best(
    results: StudyResults, rows: Sequence[Row], measures: Sequence[Measure], sampler: Sampler
) -> frozenset[tuple[str, str]]:
    """Choose what is bold: better than chance, and not to be told apart from the best of those."""
    chosen = set()
    for measure in measures:
        chance = rows[-1].constants.get(measure.name)
        found = {
            row.name: value
            for row in rows
            if row.is_scenario and (value := row.estimates.get(measure.name)) and chance is not None
            if measure.is_better(value, chance)
        }
        choose = min if measure.lower_is_better else max
        best = choose(found, key=lambda name: found[name].value, default=None)
        for name in found:
            if best is not None and (name == best or _is_close(results, best, name, measure, sampler)):
                chosen.add((name, measure.name))
    return frozenset(chosen)


def _is_close(results: StudyResults, best: str, other: str, measure: Measure, sampler: Sampler) -> bool:
    """Whether the interval of the difference of two scenarios contains 0."""
    found = difference(results.finals(best), results.finals(other), measure, sampler)
    return found is not None and found.low <= 0 <= found.high


def phone_measures(results: StudyResults) -> tuple[Measure, ...]:
    """Return ABX within speaker, and across if the study measures it."""
    modes = results.settings.abx_speakers
    return tuple(MEASURES[key] for mode, key in ABX_KEYS.items() if mode in modes)


def csv_rows(
    table: Table, measures: Sequence[Measure], seeds: Sequence[int]
) -> tuple[list[str], list[list[Any]]]:
    """Return the header and rows of a CSV file, one row per scenario and measure."""
    header = ["scenario", "title", "measure", "unit", "mean", "low", "high", "n_seeds", "chance"]
    header += [f"seed_{seed}" for seed in seeds] + [f"best_layer_seed_{seed}" for seed in seeds]
    chance = table.rows[-1].constants
    rows = []
    for row in table.rows:
        for measure in measures:
            name, found = measure.name, row.estimates.get(measure.name)
            mean = row.constants.get(name, math.nan)
            numbers = (found.value, found.low, found.high) if found else (mean, math.nan, math.nan)
            per_seed, layers = found.per_seed if found else {}, row.layers.get(name, {})
            cells = [row.name, row.title, name, measure.unit, *numbers, len(per_seed)]
            cells += [chance.get(name, math.nan), *(per_seed.get(seed, math.nan) for seed in seeds)]
            rows.append([*cells, *(layers.get(seed, "") for seed in seeds)])
    return header, rows


def markdown(table: Table) -> str:
    """Write a table with its note in Markdown; seeds' values are below their mean."""

    def cell(row: Row, measure: Measure) -> str:
        return "\n".join(filter(None, (_cell(table, row, measure), row.seeds_cell(measure))))

    rows = [[row.title, *(cell(row, one) for one in table.measures), row.seeds_text] for row in table.rows]
    heads = ["", *(measure.heading for measure in table.measures), "seeds"]
    return f"{markdown_table([heads, *rows])}\n\n{table.note}\n"


def latex(table: Table) -> str:
    """Write a table's means and intervals (asymmetric at 0 and 100 %) for LaTeX (booktabs)."""
    rows = [[row.title, *(_cell(table, row, measure) for measure in table.measures)] for row in table.rows]
    heads = ["", *(measure.heading.replace(", ", "\n") for measure in table.measures)]
    return latex_table([heads, *rows]) + "\n"


def _cell(table: Table, row: Row, measure: Measure) -> str:
    text = row.cell(measure)
    return bold(text) if table.is_best(row, measure) else text


def point_rows(results: StudyResults) -> list[list[Any]]:
    """List every value of every checkpoint; columns ``POINT_COLUMNS``."""
    rows: list[list[Any]] = []
    chance = results.chance
    for point in (*results.untrained.values(), *results.points):
        head = [point.scenario, point.seed, point.phase, point.update]
        values = [(name, "", value, math.nan) for name, value in point.losses.items()]
        values += [(name, "", value, chance.get(name, math.nan)) for name, value in point.retrieval.items()]
        for key in LAYERED:
            scores = getattr(point, key).items()
            values += [(key, layer, value, chance.get(key, math.nan)) for layer, value in scores]
        rows += [[*head, *value] for value in values]
    return rows


def _rows(results: StudyResults, measures: Sequence[Measure], sampler: Sampler) -> list[Row]:
    """Make a row per scenario, and one of the untrained model."""
    settings = results.settings
    named = [(name, settings.title(name), results.finals(name)) for name in settings.names]
    rows = []
    for name, title, points in (*named, (UNTRAINED, "untrained", results.untrained)):
        found = {one.name: value for one in measures if (value := estimate(points, one, sampler))}
        layers = {
            kind: {seed: layer for seed, point in points.items() if (layer := point.best_layer(kind))}
            for kind in (measure.name for measure in measures if measure in (*PHONES, WORDS))
        }
        rows.append(Row(name, title, found, {}, layers, len(settings.seeds)))
    return rows


def _note(rows: Sequence[Row], items: str, below: str) -> str:
    """Explain the brackets, which hold less if there is one seed only."""
    found = [value for row in rows for value in row.estimates.values()]
    numbers = {value.n_items for value in found}
    measured = f"{numbers.pop()} {items}" if len(numbers) == 1 else items
    text = f"Mean over seeds [95 % interval over seeds and {measured}]{below and '; below it '}{below}."
    text = f"{text} {_BOLD}"
    if any(not value.seeds_measured for value in found):
        text += " With one seed, the interval does not include the variation between seeds."
    return text


def _chance(results: StudyResults, measures: Sequence[Measure]) -> Row:
    found = ((measure.name, results.chance_of(measure.parts)) for measure in measures)
    constants = {name: chance for name, chance in found if chance is not None}
    return Row("chance", "chance", constants=constants)
