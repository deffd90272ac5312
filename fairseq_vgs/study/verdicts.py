"""The paper's three findings, checked on a study's data.

A finding is a paired difference that Khorrami et al. (2023) found to be above 0. It "holds" if the whole 95 %
interval of the difference is above 0, and "does not hold" if all of it is below; otherwise the study "cannot
tell". Nor can it tell

- before every seed of both scenarios has finished, so that nobody stops at a convenient moment;
- with one seed, since the variation between trainings is then unknown;
- what a second phase keeps if the first phase did not learn it: the interval of its R@10 must exceed chance;
- whose phones are better if a model has learned none: the interval of its ABX error minus the untrained
  model's must be below 0.

Nothing here is configurable. Seeds that are added after a "cannot tell" are not recorded, and adding seeds
until the answer is convenient makes intervals too narrow: fix the seeds beforehand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fairseq_vgs.study.results import Point, StudyResults
from fairseq_vgs.study.settings import BASES, scenario_title
from fairseq_vgs.study.statistics import (
    MEASURES,
    Estimate,
    Measure,
    Sampler,
    combination,
    difference,
    estimate,
)

HOLDS = "holds"
DOES_NOT_HOLD = "does not hold"
CANNOT_TELL = "cannot tell"


@dataclass(frozen=True)
class Finding:
    """A finding of the paper.

    Attributes:
        name: key in files.
        claim: in plain words.
        better: the scenario that the paper found better.
        worse: the scenario it is compared with.
        measure: the deciding measure.
        secondary: further measures that are shown but decide nothing.
        sign: 1 if more is better, -1 for errors.
        keeps: whether it is about what remains of the first phase, which must have learned it; shows what
            both scenarios lose.
        learned: whether both models must be better than the untrained one.
    """

    name: str
    claim: str
    better: str
    worse: str
    measure: Measure
    secondary: tuple[Measure, ...] = ()
    sign: int = 1
    keeps: bool = False
    learned: bool = False


FINDINGS = (
    Finding(
        "sequential_beats_simultaneous",
        "Training W2V2 first and VGS then gives better retrieval than training both at once.",
        "w2v2_then_vgs",
        "vgs_plus",
        MEASURES["r10"],
        (MEASURES["r1"], MEASURES["mrr"]),
    ),
    Finding(
        "simultaneous_keeps_more",
        "After VGS is switched off, a model that was trained on both at once retrieves better than one that "
        "was trained on VGS alone.",
        "vgs_plus_then_w2v2",
        "vgs_then_w2v2",
        MEASURES["r10"],
        keeps=True,
    ),
    Finding(
        "vgs_transfers_better",
        "Phones learned with VGS transfer to another corpus better than those learned with W2V2 alone.",
        "vgs",
        "w2v2",
        MEASURES["abx"],
        (MEASURES["abx_across"],),
        sign=-1,
        learned=True,
    ),
)


@dataclass(frozen=True)
class Line:
    """One labelled value of a verdict; differences are signed."""

    label: str
    estimate: Estimate
    measure: Measure
    is_difference: bool = False

    @property
    def unit(self) -> str:
        """Unit of the value."""
        return self.measure.difference_unit if self.is_difference else self.measure.unit


@dataclass(frozen=True)
class Verdict:
    """What the study says about a finding.

    Attributes:
        finding: the finding.
        answer: "holds", "does not hold" or "cannot tell".
        difference: supports the paper if above 0; None if it was not measured.
        lines: the scenarios' values, and secondary ones.
        remarks: reasons and reservations, in sentences.
    """

    finding: Finding
    answer: str
    difference: Estimate | None
    lines: tuple[Line, ...]
    remarks: tuple[str, ...]

    @property
    def what(self) -> str:
        """What was subtracted from what, in words."""
        better, worse = scenario_title(self.finding.better), scenario_title(self.finding.worse)
        if self.finding.sign < 0:
            better, worse = worse, better
        return f"{self.finding.measure.title}: {better} minus {worse}"

    @property
    def sentence(self) -> str:
        """The verdict in plain words with its difference."""
        number = (
            f" {self.what}: {signed_interval(self.difference, self.finding.measure)}."
            if self.difference
            else ""
        )
        return " ".join([f"{self.finding.claim} {self.answer.capitalize()}.{number}", *self.remarks])

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "finding": self.finding.name,
            "claim": self.finding.claim,
            "verdict": self.answer,
            "difference": {
                "of": self.what,
                "unit": self.finding.measure.difference_unit,
                **(self.difference.as_json() if self.difference else {"value": None}),
            },
            "also": [
                {
                    "what": line.label,
                    "measure": line.measure.name,
                    "unit": line.unit,
                    **line.estimate.as_json(),
                }
                for line in self.lines
            ],
            "remarks": list(self.remarks),
            "sentence": self.sentence,
        }


def judge(results: StudyResults, sampler: Sampler) -> list[Verdict]:
    """Check all ``FINDINGS``."""
    return [_judge(finding, results, sampler) for finding in FINDINGS]


def signed_interval(found: Estimate, measure: Measure) -> str:
    """Write a difference with its interval and unit: "+4.1 percentage points [+1.2, +7.0]"."""
    unit = f" {measure.difference_unit}" if measure.difference_unit else ""
    value, low, high = (signed(number, measure) for number in (found.value, found.low, found.high))
    return f"{value}{unit} [{low}, {high}]"


def signed(number: float, measure: Measure) -> str:
    """Write a difference of a measure with its sign."""
    return f"{number:+.{measure.decimals}f}".replace("-", "−")


def _judge(finding: Finding, results: StudyResults, sampler: Sampler) -> Verdict:
    better, worse = results.finals(finding.better), results.finals(finding.worse)
    found = _signed_difference(finding, better, worse, finding.measure, sampler)
    remarks = [*_unfinished(finding, results), *_unmeasured(finding, better, worse, found)]
    if finding.keeps and not remarks:
        remarks += _unlearned(finding, results, sampler)
    if finding.learned and not remarks:
        remarks += _as_untrained(finding, results, sampler)
    if found is not None and not found.seeds_measured:
        remarks.append("One seed: the variation between seeds is unknown.")
    answer = CANNOT_TELL
    if not remarks and found is not None:
        answer = HOLDS if found.low > 0 else DOES_NOT_HOLD if found.high < 0 else CANNOT_TELL
        if answer == CANNOT_TELL:
            remarks.append("The interval contains 0.")
    lines = _values(finding, better, worse, sampler)
    for measure in finding.secondary:
        other = _signed_difference(finding, better, worse, measure, sampler)
        if other is not None:
            lines.append(Line(f"difference in {measure.title}", other, measure, is_difference=True))
    if finding.learned:
        lines += _gained(finding, results, sampler)
    if finding.keeps:
        lines += _kept(finding, results, sampler)
    return Verdict(finding, answer, found, tuple(lines), tuple(remarks))


def _signed_difference(
    finding: Finding,
    better: Mapping[int, Point],
    worse: Mapping[int, Point],
    measure: Measure,
    sampler: Sampler,
) -> Estimate | None:
    first, second = (better, worse) if finding.sign > 0 else (worse, better)
    return difference(first, second, measure, sampler)


def _unfinished(finding: Finding, results: StudyResults) -> list[str]:
    """Name the scenarios that are not in the study or not finished."""
    sentences = []
    for scenario in (finding.better, finding.worse):
        done = results.finals(scenario)
        left = [seed for seed in results.settings.seeds if seed not in done]
        if scenario not in results.settings.scenarios:
            sentences.append(f"{scenario_title(scenario)} is not part of this study.")
        elif left:
            word = "seed" if len(left) == 1 else "seeds"
            sentences.append(f"{scenario_title(scenario)} has not finished: {word} {_listed(left)}.")
    return sentences


def _unmeasured(
    finding: Finding, better: Mapping[int, Point], worse: Mapping[int, Point], found: Estimate | None
) -> list[str]:
    """Name the seeds that are trained but not measured."""
    measured = found.per_seed if found else {}
    left = [seed for seed in better if seed in worse and seed not in measured]
    if not left:
        return []
    return [f"Not measured: {finding.measure.title} (seeds {_listed(left)})."]


def _values(
    finding: Finding, better: Mapping[int, Point], worse: Mapping[int, Point], sampler: Sampler
) -> list[Line]:
    lines = []
    for scenario, points in ((finding.better, better), (finding.worse, worse)):
        found = estimate(points, finding.measure, sampler)
        if found is not None:
            lines.append(Line(scenario_title(scenario), found, finding.measure))
    return lines


def _unlearned(finding: Finding, results: StudyResults, sampler: Sampler) -> list[str]:
    """Name the scenarios whose first phase learned nothing that the second could lose."""
    measure, sentences = finding.measure, []
    levels = [results.chance[part] for part in measure.parts if part in results.chance]
    for scenario in (finding.better, finding.worse):
        start, title = at_boundary(results, scenario), scenario_title(scenario)
        found = estimate(start, measure, sampler)
        left = [seed for seed in results.finals(scenario) if found is None or seed not in found.per_seed]
        if found is None or left or len(levels) < len(measure.parts):
            seeds = f" (seeds {_listed(left)})" if left else ""
            sentences.append(
                f"Not measured: {measure.title} of {title} after its first phase, or chance{seeds}."
            )
        elif found.low <= sum(levels) / len(levels):
            sentences.append(
                f"{title} had nothing to lose: after its first phase {measure.title} is "
                f"{found.value:.{measure.decimals}f} [{found.low:.{measure.decimals}f}, "
                f"{found.high:.{measure.decimals}f}], which is not above chance, "
                f"{sum(levels) / len(levels):.{measure.decimals}f}."
            )
    return sentences


def _as_untrained(finding: Finding, results: StudyResults, sampler: Sampler) -> list[str]:
    """Name the models that are not better than the untrained one, and so have nothing to transfer."""
    measure, sentences = finding.measure, []
    for scenario in (finding.better, finding.worse):
        finals, title = results.finals(scenario), scenario_title(scenario)
        found = difference(finals, results.untrained, measure, sampler)
        left = [seed for seed in finals if found is None or seed not in found.per_seed]
        if found is None or left:
            sentences.append(
                f"Not measured: {measure.title} of {title} minus the untrained model (seeds {_listed(left)})."
            )
        elif found.high >= 0:
            sentences.append(
                f"{title} has not learned phones: {measure.title} minus the untrained model's is "
                f"{signed_interval(found, measure)}, which is not below 0."
            )
    return sentences


def _gained(finding: Finding, results: StudyResults, sampler: Sampler) -> list[Line]:
    """Return how much each scenario differs from the untrained model."""
    lines = []
    for scenario in (finding.better, finding.worse):
        found = difference(results.finals(scenario), results.untrained, finding.measure, sampler)
        if found is not None:
            label = f"{scenario_title(scenario)} minus untrained"
            lines.append(Line(label, found, finding.measure, is_difference=True))
    return lines


def _kept(finding: Finding, results: StudyResults, sampler: Sampler) -> list[Line]:
    """Return what each scenario had after its first phase, what it loses by the end, and the difference."""
    measure, lines = finding.measure, []
    spans = [(at_boundary(results, name), results.finals(name)) for name in (finding.better, finding.worse)]
    titles = [scenario_title(name) for name in (finding.better, finding.worse)]
    for title, (start, end) in zip(titles, spans, strict=True):
        learned, lost = estimate(start, measure, sampler), difference(start, end, measure, sampler)
        if learned is not None:
            lines.append(Line(f"{title}, after its first phase", learned, measure))
        if lost is not None:
            lines.append(Line(f"{title}, lost since its first phase", lost, measure, is_difference=True))
    (start, end), (other_start, other_end) = spans
    terms = ((1, start), (-1, end), (-1, other_start), (1, other_end))
    more_lost = combination(terms, measure, sampler)
    if more_lost is not None:
        label = f"difference in what was lost: {titles[0]} minus {titles[1]}"
        lines.append(Line(label, more_lost, measure, is_difference=True))
    return lines


def at_boundary(results: StudyResults, scenario: str) -> dict[int, Point]:
    """Return the points at the start of a scenario's second phase by seed; none for a base."""
    if scenario in BASES:
        return {}
    return {
        point.seed: point
        for point in results.points
        if (point.scenario, point.update) == (scenario, results.settings.first_updates)
    }


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(str(number) for number in numbers)
