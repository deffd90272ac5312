"""One figure per question: every seed's paired difference, their mean, and the margin; forgetting curves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from fairseq_vgs.report.plots import BLUE, GREY, ORANGE, Figure, Panel, Series
from fairseq_vgs.study.forgetting import Retained, retained
from fairseq_vgs.study.results import StudyResults
from fairseq_vgs.study.statistics import MEASURES, Estimate, Sampler
from fairseq_vgs.study.verdicts import Verdict

_COLUMNS = {name: name for name in ("series", "seed", "x", "value", "low", "high")}
_INCHES = (5.2, 2.7)
_WHOLE = 100.0  # percent


def answer_figures(results: StudyResults, verdicts: Sequence[Verdict], sampler: Sampler) -> list[Figure]:
    """Draw what answers the questions, as far as it was measured."""
    return [figure for one in verdicts for figure in _figures(results, one, sampler)]


def _figures(results: StudyResults, verdict: Verdict, sampler: Sampler) -> Iterator[Figure]:
    if verdict.difference is not None:
        yield _differences(verdict, verdict.difference)
    if verdict.question.keeps:
        curves = {arm: _curves(results, verdict, arm, sampler) for arm in verdict.question.arms}
        if any(curves.values()):
            yield _forgetting(results, verdict, curves)


def _differences(verdict: Verdict, found: Estimate) -> Figure:
    measure, margin = verdict.question.measure, verdict.question.margin
    seeds = list(found.per_seed)
    places = list(range(len(seeds)))
    series = [
        Series("difference of a seed", list(found.per_seed.values()), places, GREY, "o",
               names=[str(seed) for seed in seeds], legend=""),
        Series("mean, 95 % interval", [found.value], [len(seeds)], BLUE, "o", legend="",
               band=([found.low], [found.high]), names=["mean"]),
        Series("no difference", [0.0], colour="0.4", width=1.0, legend=""),
    ]  # fmt: skip
    if margin is not None:
        series += [
            Series(f"margin {sign}", [number], colour=ORANGE, style=":", legend="")
            for sign, number in (("+", margin), ("−", -margin))
        ]
    unit = ", ".join(filter(None, ("difference", measure.difference_unit)))
    first, second = verdict.titles
    return Figure(
        [Panel("", unit, series)],
        _COLUMNS,
        "seed",
        [*map(str, seeds), "mean"],
        panel_inches=_INCHES,
        name=f"answer_{verdict.question.name}",
        title=f"{measure.title}: {first} minus {second}",
        note="Grey: one seed; blue: their mean with its 95 % interval; dotted: the declared margin.",
    )


def _curves(results: StudyResults, verdict: Verdict, arm: str, sampler: Sampler) -> dict[int, Retained]:
    return retained(results, arm, MEASURES[verdict.question.measure.name.removeprefix("kept_")], sampler)


def _forgetting(results: StudyResults, verdict: Verdict, curves: dict[str, dict[int, Retained]]) -> Figure:
    updates = sorted({int(u) for found in curves.values() for one in found.values() for u in one.updates})
    measure = MEASURES[verdict.question.measure.name.removeprefix("kept_")]
    series = [Series("chance", [0.0], style=":", legend="")]
    for colour, (arm, found) in zip((BLUE, ORANGE), curves.items(), strict=True):
        series += _lines(results.settings.title(arm), found, updates, colour)
    return Figure(
        [Panel("", f"{measure.title} kept, %", series)],
        _COLUMNS,
        "update of the second phase",
        ["0", *map(str, updates)],
        panel_inches=_INCHES,
        name=f"forgetting_{verdict.question.name}",
        title="What is left of the first phase's retrieval",
        note="Share of what the first phase gained over chance; thin lines: seeds. Steps are not to scale.",
    )


def _lines(title: str, found: dict[int, Retained], updates: Sequence[int], colour: str) -> Iterator[Series]:
    names = ["0", *map(str, updates)]
    whole = [one for one in found.values() if len(one.updates) == len(updates)]
    for seed, one in found.items():
        places = [0, *(1 + updates.index(int(update)) for update in one.updates)]
        values = [_WHOLE, *(_WHOLE * one.shares)]
        chosen = [names[place] for place in places]
        yield Series(title, values, places, colour, width=0.7, alpha=0.45, legend="", names=chosen,
                     cells={"seed": seed})  # fmt: skip
    if whole:
        mean = [_WHOLE, *(_WHOLE * np.mean([one.shares for one in whole], axis=0))]
        yield Series(title, mean, list(range(len(names))), colour, width=2.0, names=names,
                     cells={"seed": "mean"})  # fmt: skip
