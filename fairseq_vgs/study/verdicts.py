"""The paper's three findings, checked on a study's data.

A finding is a paired difference that Khorrami et al. (2023) found to be above 0. It "holds" if the whole 95 %
interval of the difference is above 0, and "does not hold" if all of it is below; otherwise the study "cannot
tell". Nor can it tell

- before every seed of both scenarios has finished, so that nobody stops at a convenient moment;
- with one seed, since the variation between trainings is then unknown;
- what a second phase keeps if the first phase did not learn it: the interval of its R@10 must exceed chance
  (or of another R@k, where the pool is too small for R@10);
- whose phones are better if a model has learned none: the interval of its ABX error minus the untrained
  model's must be below 0.

Nothing here is configurable. Seeds that are added after a "cannot tell" are not recorded, and adding seeds
until the answer is convenient makes intervals too narrow: fix the seeds beforehand.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fairseq_vgs.configs.scenarios import BASES, scenario_title
from fairseq_vgs.metrics.retrieval import RECALL_CUTOFFS
from fairseq_vgs.study.results import LAYERED, Point, StudyResults
from fairseq_vgs.study.settings import StudySettings
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
ONE_SEED = "One seed: the variation between seeds is unknown."
CONTAINS_0 = "The interval contains 0."
_RECALLS = tuple(MEASURES[f"r{k}"] for k in RECALL_CUTOFFS)


@dataclass(frozen=True)
class Finding:
    """A finding of the paper: a claim that scenario ``better`` beats scenario ``worse``.

    Attributes:
        measure: the deciding measure; ``secondary`` ones are shown but decide nothing.
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
    keeps: bool = False
    learned: bool = False

    @property
    def scenarios(self) -> tuple[str, str]:
        """Both scenarios, the better one first."""
        return self.better, self.worse

    @property
    def minuend_first(self) -> tuple[str, str]:
        """Both scenarios in the order in which a positive difference supports the paper."""
        return (self.worse, self.better) if self.measure.lower_is_better else self.scenarios


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

    @property
    def text(self) -> str:
        """The value with its unit and interval."""
        return self.measure.interval(self.estimate, self.unit, signed=self.is_difference)

    @property
    def seeds(self) -> str:
        """The values of the seeds, if there is more than one."""
        values = self.estimate.per_seed.values() if self.estimate.seeds_measured else ()
        return " · ".join(self.measure.text(value, signed=self.is_difference) for value in values)


@dataclass(frozen=True)
class Verdict:
    """What the study says about a finding.

    Attributes:
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
        first, second = map(scenario_title, self.finding.minuend_first)
        return f"{self.finding.measure.title}: {first} minus {second}"

    @property
    def difference_line(self) -> Line | None:
        """The difference with its label; None if it was not measured."""
        if self.difference is None:
            return None
        return Line(self.what, self.difference, self.finding.measure, is_difference=True)

    @property
    def sentence(self) -> str:
        """The verdict in plain words with its difference."""
        line = self.difference_line
        numbers = [f"{line.label}: {line.text}."] if line else []
        return " ".join([self.finding.claim, f"{self.answer.capitalize()}.", *numbers, *self.remarks])

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        unit = self.finding.measure.difference_unit
        found = self.difference.as_json() if self.difference else {"value": None}
        return {
            "finding": self.finding.name,
            "claim": self.finding.claim,
            "verdict": self.answer,
            "difference": {"of": self.what, "unit": unit, **found},
            "also": [
                {"what": one.label, "measure": one.measure.name, "unit": one.unit, **one.estimate.as_json()}
                for one in self.lines
            ],
            "remarks": list(self.remarks),
            "sentence": self.sentence,
        }


def judge(results: StudyResults, sampler: Sampler) -> list[Verdict]:
    """Check those of ``FINDINGS`` whose scenarios are in the study, by measures that suit its pool."""
    wanted = [finding for finding in FINDINGS if not _needed(finding, results.settings)]
    return [_Judge(_suited(finding, results), results, sampler).verdict() for finding in wanted]


def not_run(settings: StudySettings) -> list[str]:
    """Say what the other findings would need."""
    needed = {finding: list(_needed(finding, settings)) for finding in FINDINGS}
    return [f"{one.claim} Needs {' and '.join(names)}." for one, names in needed.items() if names]


def unfinished(results: StudyResults, scenarios: Iterable[str]) -> Iterator[str]:
    """Name the scenarios that have not finished, with their seeds."""
    for scenario in scenarios:
        left = [seed for seed in results.settings.seeds if seed not in results.finals(scenario)]
        if left:
            seeds = "seed" if len(left) == 1 else "seeds"
            yield f"{scenario_title(scenario)} has not finished: {seeds} {_listed(left)}."


def _needed(finding: Finding, settings: StudySettings) -> list[str]:
    """List what of a finding is not part of a study."""
    names = [scenario_title(name) for name in finding.scenarios if name not in settings.scenarios]
    has_measure = finding.measure.name not in LAYERED or settings.abx is not None
    return names if has_measure else [*names, "phone discrimination (the key abx)"]


def _suited(finding: Finding, results: StudyResults) -> Finding:
    """Replace a recall that says little of a small pool by the largest that suits it."""
    if finding.measure not in _RECALLS:
        return finding
    measure = MEASURES[f"r{results.recall_cutoffs[-1]}"]
    return replace(finding, measure=measure, secondary=tuple(m for m in finding.secondary if m != measure))


@dataclass(frozen=True)
class _Judge:
    """Checks one finding."""

    finding: Finding
    results: StudyResults
    sampler: Sampler

    def verdict(self) -> Verdict:
        finding = self.finding
        found = self._difference(finding.measure)
        remarks = [*unfinished(self.results, finding.scenarios), *self._unmeasured(found)]
        if finding.keeps and not remarks:
            remarks += self._unlearned()
        if finding.learned and not remarks:
            remarks += self._as_untrained()
        if found is not None and not found.seeds_measured:
            remarks.append(ONE_SEED)
        answer = CANNOT_TELL
        if not remarks and found is not None:
            answer = HOLDS if found.low > 0 else DOES_NOT_HOLD if found.high < 0 else CANNOT_TELL
            if answer == CANNOT_TELL:
                remarks.append(CONTAINS_0)
        return Verdict(finding, answer, found, tuple(self._lines()), tuple(remarks))

    def _difference(self, measure: Measure) -> Estimate | None:
        first, second = map(self.results.finals, self.finding.minuend_first)
        return difference(first, second, measure, self.sampler)

    def _lines(self) -> Iterator[Line]:
        finding, sampler = self.finding, self.sampler
        for scenario in finding.scenarios:
            found = estimate(self.results.finals(scenario), finding.measure, sampler)
            yield from self._line(scenario_title(scenario), found)
        for measure in finding.secondary:
            if other := self._difference(measure):
                yield Line(f"difference in {measure.title}", other, measure, is_difference=True)
        for scenario in finding.scenarios if finding.learned else ():
            gained = self._gained(scenario)
            yield from self._line(f"{scenario_title(scenario)} minus untrained", gained, is_difference=True)
        if finding.keeps:
            yield from self._kept()

    def _line(self, label: str, found: Estimate | None, *, is_difference: bool = False) -> Iterator[Line]:
        if found is not None:
            yield Line(label, found, self.finding.measure, is_difference)

    def _gained(self, scenario: str) -> Estimate | None:
        """Return how much a scenario differs from the untrained model."""
        finals = self.results.finals(scenario)
        return difference(finals, self.results.untrained, self.finding.measure, self.sampler)

    def _at_boundary(self, scenario: str) -> Mapping[int, Point]:
        """Return the points at the start of a scenario's second phase by seed; none for a base."""
        return {} if scenario in BASES else self.results.at(scenario, self.results.settings.first_updates)

    def _kept(self) -> Iterator[Line]:
        """Yield what scenarios had after their first phase, what they lose by the end, and the difference."""
        measure, sampler = self.finding.measure, self.sampler
        terms = []
        for sign, scenario in zip((1, -1), self.finding.scenarios, strict=True):
            title = scenario_title(scenario)
            start = self._at_boundary(scenario)
            end = self.results.finals(scenario)
            lost = difference(start, end, measure, sampler)
            yield from self._line(f"{title}, after its first phase", estimate(start, measure, sampler))
            yield from self._line(f"{title}, lost since its first phase", lost, is_difference=True)
            terms += [(sign, start), (-sign, end)]
        titles = " minus ".join(map(scenario_title, self.finding.scenarios))
        label = f"difference in what was lost: {titles}"
        yield from self._line(label, combination(terms, measure, sampler), is_difference=True)

    def _unmeasured(self, found: Estimate | None) -> Iterator[str]:
        """Name the seeds that are trained but not measured."""
        better, worse = map(self.results.finals, self.finding.scenarios)
        if left := _left([seed for seed in better if seed in worse], found):
            yield f"Not measured: {self.finding.measure.title} (seeds {_listed(left)})."

    def _unlearned(self) -> Iterator[str]:
        """Name the scenarios whose first phase learned nothing that the second could lose."""
        measure, chance = self.finding.measure, self.results.chance_of(self.finding.measure.parts)
        for scenario in self.finding.scenarios:
            title = scenario_title(scenario)
            found = estimate(self._at_boundary(scenario), measure, self.sampler)
            left = _left(self.results.finals(scenario), found)
            if found is None or left or chance is None:
                seeds = f" (seeds {_listed(left)})" if left else ""
                yield f"Not measured: {measure.title} of {title} after its first phase, or chance{seeds}."
            elif found.low <= chance:
                yield (
                    f"{title} had nothing to lose: after its first phase {measure.title} is "
                    f"{measure.interval(found)}, which is not above chance, {measure.text(chance)}."
                )

    def _as_untrained(self) -> Iterator[str]:
        """Name the models that are not better than the untrained one, and so have nothing to transfer."""
        measure = self.finding.measure
        for scenario in self.finding.scenarios:
            title, found = scenario_title(scenario), self._gained(scenario)
            left = _left(self.results.finals(scenario), found)
            if found is None or left:
                seeds = f"(seeds {_listed(left)})"
                yield f"Not measured: {measure.title} of {title} minus the untrained model {seeds}."
            elif found.high >= 0:
                number = measure.interval(found, measure.difference_unit, signed=True)
                yield (
                    f"{title} has not learned phones: {measure.title} minus the untrained model's is "
                    f"{number}, which is not below 0."
                )


def _left(seeds: Iterable[int], found: Estimate | None) -> list[int]:
    """Return the seeds that an estimate lacks."""
    return [seed for seed in seeds if found is None or seed not in found.per_seed]


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(str(number) for number in numbers)
