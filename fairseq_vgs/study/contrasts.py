"""The contrasts of a study file: two scenarios compared on every measure, the first minus the second.

Differences are paired by seed and taken on the same resampled items (``study.statistics``). The first is
"better" or "worse" if the whole 95 % interval of the difference is on one side of 0, else the study "cannot
tell"; nor can it before every seed of both scenarios has finished, or with one seed. No correction is made
for the number of contrasts and measures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fairseq_vgs.files.text_tables import Rows, latex_table, markdown_table
from fairseq_vgs.metrics.retrieval import DIRECTIONS
from fairseq_vgs.report.plots import BLUE, GREY, ORANGE, Figure, Panel, Series
from fairseq_vgs.study.results import StudyResults
from fairseq_vgs.study.statistics import MEASURES, Estimate, Measure, Sampler, difference, estimate
from fairseq_vgs.study.tables import NOTHING, WORDS, phone_measures
from fairseq_vgs.study.verdicts import CONTAINS_0, ONE_SEED, unfinished

BETTER, WORSE, CANNOT_TELL = "better", "worse", "cannot tell"
NAME, TITLE = "contrasts", "Contrasts"
_WHAT = "First minus second, mean over seeds of paired differences on the same test items [95 % interval]"
_HOW = (
    "Better or worse: the whole interval is on one side of 0. Every line has its own 95 %: of 20 differences "
    "that do not exist, one is expected to look like one."
)
NOTE, CAPTION = f"{_WHAT}; below it every seed's difference. {_HOW}", f"{_WHAT}. {_HOW}"
_COLOURS = {BETTER: BLUE, WORSE: ORANGE, CANNOT_TELL: GREY}
_COLUMNS = {name: name for name in ("panel", "series", "x", "value", "low", "high")}
_TICK_INCHES = 0.45


@dataclass(frozen=True)
class Contrast:
    """Two scenarios on one measure; ``values`` are their own, ``remarks`` why there is no verdict."""

    scenarios: tuple[str, str]
    titles: tuple[str, str]
    measure: Measure
    values: tuple[Estimate | None, Estimate | None]
    difference: Estimate | None
    remarks: tuple[str, ...]

    @property
    def title(self) -> str:
        """The two scenarios in the order of the subtraction."""
        first, second = self.titles
        return f"{first} minus {second}"

    @property
    def answer(self) -> str:
        """What the first scenario is, "better" or "worse"; or "cannot tell"."""
        if self.remarks or self.difference is None:
            return CANNOT_TELL
        return BETTER if self.measure.is_better(self.difference, 0.0) else WORSE

    @property
    def sentence(self) -> str:
        """The verdict in plain words, with the difference."""
        first, second = self.titles
        if self.answer == CANNOT_TELL:
            verdict = f"Cannot tell whether {first} or {second} is better"
        else:
            verdict = f"{first} is {self.answer} than {second}"
        text = self.difference_text(self.measure.difference_unit)
        numbers = f"{self.measure.title}, {self.title}: {text}." if self.difference else ""
        return " ".join(filter(None, (f"{verdict}.", numbers, *self.remarks)))

    def value_text(self, place: int) -> str:
        """Write the mean of one of the two, with its interval."""
        found = self.values[place]
        return NOTHING if found is None else self.measure.interval(found)

    def difference_text(self, unit: str = "") -> str:
        """Write the difference with its interval."""
        return (
            NOTHING if self.difference is None else self.measure.interval(self.difference, unit, signed=True)
        )

    @property
    def seeds_text(self) -> str:
        """Write the differences of the seeds, if there are several."""
        if self.difference is None or not self.difference.seeds_measured:
            return ""
        return " · ".join(self.measure.text(one, signed=True) for one in self.difference.per_seed.values())

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        values = zip(self.scenarios, self.values, strict=True)
        return {
            "contrast": list(self.scenarios),
            "measure": self.measure.name,
            "title": self.measure.title,
            "lower_is_better": self.measure.lower_is_better,
            "unit": self.measure.difference_unit,
            "verdict": self.answer,
            "difference": self.difference.as_json() if self.difference else None,
            "values": {name: found.as_json() if found else None for name, found in values},
            "remarks": list(self.remarks),
            "sentence": self.sentence,
        }


def find_contrasts(results: StudyResults, sampler: Sampler) -> list[Contrast]:
    """Compare the pairs of the study file on every measure that was planned and suits the pool."""
    return [
        _contrast((first, second), measure, results, sampler)
        for first, second in results.settings.contrasts
        for measure in measures_of(results)
    ]


def shown(contrasts: Sequence[Contrast]) -> list[Contrast]:
    """Leave out single directions of retrieval, which are in the JSON file only."""
    return [one for one in contrasts if not one.measure.name.startswith(DIRECTIONS)]


def measures_of(results: StudyResults) -> tuple[Measure, ...]:
    """List what contrasts are measured by: retrieval, phones and words, as far as the study has them."""
    kinds = [*(f"r{k}" for k in results.recall_cutoffs), "median_rank", "mrr"]
    names = [*kinds, *(f"{way}_{kind}" for way in DIRECTIONS for kind in kinds)]
    settings = results.settings
    phones = () if settings.abx is None else phone_measures(results)
    words = () if settings.lexical is None else (WORDS,)
    return (*(MEASURES[name] for name in names), *phones, *words)


def _contrast(
    scenarios: tuple[str, str], measure: Measure, results: StudyResults, sampler: Sampler
) -> Contrast:
    first, second = map(results.finals, scenarios)
    found = difference(first, second, measure, sampler)
    remarks = [
        *unfinished(results, scenarios),
        *_unmeasured(measure, found, [one for one in first if one in second]),
    ]
    if not remarks and found is not None:
        remarks += _undecided(found)
    values = estimate(first, measure, sampler), estimate(second, measure, sampler)
    titles = results.settings.title(scenarios[0]), results.settings.title(scenarios[1])
    return Contrast(scenarios, titles, measure, values, found, tuple(remarks))


def _unmeasured(measure: Measure, found: Estimate | None, seeds: Sequence[int]) -> Iterator[str]:
    if left := [seed for seed in seeds if found is None or seed not in found.per_seed]:
        yield f"Not measured: {measure.title} (seeds {', '.join(map(str, left))})."


def _undecided(found: Estimate) -> Iterator[str]:
    if not found.seeds_measured:
        yield ONE_SEED
    elif found.low <= 0 <= found.high:
        yield CONTAINS_0


def contrast_rows(contrasts: Sequence[Contrast]) -> Rows:
    """Lay out a table: a row per contrast and measure; seeds' differences are below their mean."""
    heads = ["", "measure", "first", "second", "difference", "first is"]
    return [heads, *([one.title, *_cells(one), one.answer] for one in contrasts)]


def _cells(one: Contrast) -> list[str]:
    difference_text = "\n".join(filter(None, (one.difference_text(), one.seeds_text)))
    return [one.measure.heading, one.value_text(0), one.value_text(1), difference_text]


def markdown(contrasts: Sequence[Contrast]) -> str:
    """Write the table with its note in Markdown."""
    return f"{markdown_table(contrast_rows(contrasts))}\n\n{NOTE}\n"


def latex(contrasts: Sequence[Contrast]) -> str:
    """Write the table for LaTeX (booktabs), without the seeds' differences."""
    return latex_table([[cell.split("\n")[0] for cell in row] for row in contrast_rows(contrasts)]) + "\n"


def contrasts_figure(contrasts: Sequence[Contrast]) -> Figure | None:
    """Draw the differences with their intervals, a panel per measure; None if nothing was measured."""
    measured = [one for one in contrasts if one.difference is not None]
    titles = list(dict.fromkeys(one.title for one in measured))
    panels = []
    for measure in dict.fromkeys(one.measure for one in measured):
        unit = "difference" + (f", {measure.difference_unit}" if measure.unit else "")
        found = [one for one in measured if one.measure == measure]
        series = [_points(answer, found, titles) for answer in _COLOURS]
        zero = Series("no difference", [0.0], colour="0.4", width=1.0, legend="")
        panels.append(Panel(measure.title, unit, [one for one in series if len(one.y)] + [zero]))
    if not panels:
        return None
    note = (
        "Difference at the end of training, first minus second, with its 95 % interval. Blue: the first is "
        "better; orange: worse; grey: cannot tell. For median rank and ABX error, below 0 is better."
    )
    inches = (max(4.2, 1.2 + _TICK_INCHES * len(titles)), 4.2)
    return Figure(
        panels, _COLUMNS, "", titles, panel_inches=inches, name=NAME, title=TITLE, note=note, tick_degrees=90
    )


def _points(answer: str, contrasts: Sequence[Contrast], titles: Sequence[str]) -> Series:
    found = [(one, one.difference) for one in contrasts if one.answer == answer and one.difference]
    return Series(
        answer,
        [value.value for _, value in found],
        [titles.index(one.title) for one, _ in found],
        _COLOURS[answer],
        style="o",
        band=([value.low for _, value in found], [value.high for _, value in found]),
        legend="",
        names=[one.title for one, _ in found],
    )
