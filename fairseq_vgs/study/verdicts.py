"""A study's answers to its questions, which are declared before it runs (``study.questions``).

A question is answered by a paired difference: "supported" or "contradicted" if its p-value, corrected for the
number of questions, is at most 0.05, "equivalent" if the difference is within the margin, else "undecided"
(``study.decisions``). Whatever the numbers, a question stays undecided

- before every seed of both arms has finished, so that nobody stops at a convenient moment;
- with one seed, since the variation between trainings is then unknown;
- if it is about what a second phase keeps and the first did not learn it: the interval of its recall must
  exceed chance;

and it is "not decidable" if it is about whose phones are better and a model has learned none (the interval of
its ABX error minus the untrained model's must be below 0), or both are worse than features without a model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fairseq_vgs.metrics.retrieval import RECALL_CUTOFFS
from fairseq_vgs.study.decisions import (
    UNDECIDED,
    decide,
    holm,
    p_equivalent,
    p_value,
    seeds_needed,
)
from fairseq_vgs.study.forgetting import kept, retained
from fairseq_vgs.study.questions import Question, questions_of
from fairseq_vgs.study.results import LAYERED, Point, StudyResults
from fairseq_vgs.study.settings import StudySettings
from fairseq_vgs.study.statistics import (
    KEPT,
    MEASURES,
    Estimate,
    Measure,
    Sample,
    Sampler,
    combination,
    combined,
    difference,
    estimate,
    mean_over_seeds,
)

NOT_DECIDABLE = "not decidable"
ONE_SEED = "One seed: the variation between seeds is unknown."
CONTAINS_0 = "The interval contains 0."
_RECALLS = tuple(MEASURES[f"r{k}"] for k in RECALL_CUTOFFS)


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
    """What the study says about a question.

    Attributes:
        titles: of the two arms, in the order of the subtraction.
        answer: "supported", "contradicted", "equivalent", "undecided" or "not decidable".
        difference: supports the claim if above 0; None if it was not measured.
        p_corrected: p-value of no difference, corrected for the study's questions.
        n_needed: seeds in all that would decide; None if unknown, or if it is decided.
        lines: the arms' values, and secondary ones.
        remarks: reasons and reservations, in sentences.
    """

    question: Question
    titles: tuple[str, str]
    answer: str
    difference: Estimate | None
    p_corrected: float
    n_needed: int | None
    lines: tuple[Line, ...]
    remarks: tuple[str, ...]

    @property
    def what(self) -> str:
        """What was subtracted from what, in words."""
        first, second = self.titles
        return f"{self.question.measure.title}: {first} minus {second}"

    @property
    def difference_line(self) -> Line | None:
        """The difference with its label; None if it was not measured."""
        if self.difference is None:
            return None
        return Line(self.what, self.difference, self.question.measure, is_difference=True)

    @property
    def sentence(self) -> str:
        """The verdict in plain words with its difference."""
        line = self.difference_line
        numbers = [f"{line.label}: {line.text}."] if line else []
        return " ".join([self.question.claim, f"{self.answer.capitalize()}.", *numbers, *self.remarks])

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        unit = self.question.measure.difference_unit
        found = self.difference.as_json() if self.difference else {"value": None}
        return {
            "question": self.question.name,
            "claim": self.question.claim,
            "verdict": self.answer,
            "measure": self.question.measure.name,
            "margin": self.question.margin,
            "difference": {"of": self.what, "unit": unit, **found},
            "p_corrected": self.p_corrected,
            "seeds_needed": self.n_needed,
            "also": [
                {"what": one.label, "measure": one.measure.name, "unit": one.unit, **one.estimate.as_json()}
                for one in self.lines
            ],
            "remarks": list(self.remarks),
            "sentence": self.sentence,
        }


def judge(results: StudyResults, sampler: Sampler) -> list[Verdict]:
    """Answer the questions whose arms are in the study, by measures that suit its pool."""
    wanted = [one for one in questions_of(results.settings) if not _needed(one, results.settings)]
    judges = [_Judge(_suited(question, results), results, sampler) for question in wanted]
    found = [one.difference() for one in judges]
    corrected = holm([1.0 if d is None else p_value(d) for d in found])
    inside = holm([_p_inside(d, one.question.margin) for d, one in zip(found, judges, strict=True)])
    return [
        judge.verdict(difference, p_corrected, p_inside, n_questions=len(judges))
        for judge, difference, p_corrected, p_inside in zip(judges, found, corrected, inside, strict=True)
    ]


def not_run(settings: StudySettings) -> list[str]:
    """Say what the other questions would need."""
    needed = {question: list(_needed(question, settings)) for question in questions_of(settings)}
    return [f"{one.claim} Needs {' and '.join(names)}." for one, names in needed.items() if names]


def unfinished(results: StudyResults, arms: Iterable[str]) -> Iterator[str]:
    """Name the arms that have not finished, with their seeds."""
    for arm in arms:
        left = [seed for seed in results.settings.seeds if seed not in results.finals(arm)]
        if left:
            seeds = "seed" if len(left) == 1 else "seeds"
            yield f"{results.settings.title(arm)} has not finished: {seeds} {_listed(left)}."


def _p_inside(found: Estimate | None, margin: float | None) -> float:
    return 1.0 if found is None or margin is None else p_equivalent(found, margin)


def _needed(question: Question, settings: StudySettings) -> list[str]:
    """List what of a question is not part of a study."""
    names = [settings.title(name) for name in question.arms if name not in settings.names]
    has_measure = question.measure.name not in LAYERED or settings.abx is not None
    return names if has_measure else [*names, "phone discrimination (the key abx)"]


def _suited(question: Question, results: StudyResults) -> Question:
    """Replace a finding's recall that says little of a small pool by the largest that suits it."""
    if question.measure not in _RECALLS or results.settings.questions:
        return question
    k = results.recall_cutoffs[-1]
    measure = MEASURES[f"r{k}"]
    left = tuple(one for one in question.secondary if one != measure)
    small = [KEPT[f"kept_r{other}"] for other in RECALL_CUTOFFS if other not in results.recall_cutoffs]
    return replace(question, measure=measure, secondary=tuple(one for one in left if one not in small))


@dataclass(frozen=True)
class _Judge:
    """Answers one question."""

    question: Question
    results: StudyResults
    sampler: Sampler

    def verdict(
        self, found: Estimate | None, p_corrected: float, p_inside: float, *, n_questions: int
    ) -> Verdict:
        question, needed = self.question, None
        remarks = [*unfinished(self.results, question.arms), *self._unmeasured(found)]
        if question.keeps and not remarks:
            remarks += self._unlearned()
        if found is not None and not found.seeds_measured:
            remarks.append(ONE_SEED)
        answer = UNDECIDED
        if not remarks and found is not None:
            answer = decide(found, p_corrected, question.margin, p_inside)
            if question.learned and (reasons := [*self._as_untrained(), *self._without_model()]):
                answer, remarks = NOT_DECIDABLE, reasons
        if answer == UNDECIDED and not remarks and found is not None:
            needed = seeds_needed(found, question.margin, n_questions)
            remarks.append(self._more_seeds(found, needed))
        titles = self._titles(question.minuend_first)
        return Verdict(
            question, titles, answer, found, p_corrected, needed, tuple(self._lines()), tuple(remarks)
        )

    def difference(self) -> Estimate | None:
        """Return the paired difference that answers the question."""
        return self._difference(self.question.measure)

    def _more_seeds(self, found: Estimate, needed: int | None) -> str:
        deviation = self.question.measure.text(found.seed_sd)
        measured = f"differences of seeds deviate by {deviation}"
        if needed is None:
            return f"More seeds alone would not decide it on these test items ({measured})."
        return f"About {needed} seeds would decide it, if what was measured stays as it is ({measured})."

    def _titles(self, arms: Sequence[str]) -> tuple[str, str]:
        first, second = map(self.results.settings.title, arms)
        return first, second

    def _difference(self, measure: Measure) -> Estimate | None:
        arms = self.question.minuend_first
        if measure in KEPT.values():
            samples = [self._kept_samples(arm, measure) for arm in arms]
            return combined(list(zip((1, -1), samples, strict=True)), measure)
        first, second = map(self.results.finals, arms)
        return difference(first, second, measure, self.sampler)

    def _kept_samples(self, arm: str, measure: Measure) -> dict[int, Sample]:
        return kept(self.results, arm, measure, self.sampler)

    def _lines(self) -> Iterator[Line]:
        question, sampler = self.question, self.sampler
        for arm in question.arms:
            yield from self._line(self.results.settings.title(arm), self._value(arm))
        for measure in question.secondary:
            if other := self._difference(measure):
                yield Line(f"difference in {measure.title}", other, measure, is_difference=True)
        for arm in question.arms if question.learned else ():
            gained = self._gained(arm)
            title = self.results.settings.title(arm)
            yield from self._line(f"{title} minus untrained", gained, is_difference=True)
        if question.keeps and question.measure not in KEPT.values():
            yield from self._lost()
        if question.keeps:
            yield from self._half_lives(sampler)

    def _value(self, arm: str) -> Estimate | None:
        measure = self.question.measure
        if measure in KEPT.values():
            return combined([(1, self._kept_samples(arm, measure))], measure)
        return estimate(self.results.finals(arm), measure, self.sampler)

    def _line(self, label: str, found: Estimate | None, *, is_difference: bool = False) -> Iterator[Line]:
        if found is not None:
            yield Line(label, found, self.question.measure, is_difference)

    def _gained(self, arm: str) -> Estimate | None:
        """Return how much an arm differs from the untrained model."""
        finals = self.results.finals(arm)
        return difference(finals, self.results.untrained, self.question.measure, self.sampler)

    def _at_boundary(self, arm: str) -> Mapping[int, Point]:
        """Return the points at the start of an arm's second phase by seed; none for a base."""
        start = self.results.settings.arm(arm).boundary
        return {} if start is None else self.results.at(arm, start)

    def _lost(self) -> Iterator[Line]:
        """Yield what arms had after their first phase, what they lose by the end, and the difference."""
        measure, sampler = self.question.measure, self.sampler
        terms = []
        for sign, arm in zip((1, -1), self.question.arms, strict=True):
            title = self.results.settings.title(arm)
            start = self._at_boundary(arm)
            end = self.results.finals(arm)
            lost = difference(start, end, measure, sampler)
            yield from self._line(f"{title}, after its first phase", estimate(start, measure, sampler))
            yield from self._line(f"{title}, lost since its first phase", lost, is_difference=True)
            terms += [(sign, start), (-sign, end)]
        titles = " minus ".join(self._titles(self.question.arms))
        label = f"difference in what was lost: {titles}"
        yield from self._line(label, combination(terms, measure, sampler), is_difference=True)

    def _half_lives(self, sampler: Sampler) -> Iterator[Line]:
        """Yield after how many updates of the second phase half of the recall is gone."""
        measure = self._recall()
        for arm in self.question.arms:
            curves = retained(self.results, arm, measure, sampler)
            halves = {seed: curve.half_life for seed, curve in curves.items()}
            if halves and all(half < float("inf") for half in halves.values()):
                found = mean_over_seeds(halves, np.zeros(2))
                label = f"{self.results.settings.title(arm)}, half of {measure.title} lost after"
                yield Line(label, found, HALF_LIFE)

    def _recall(self) -> Measure:
        """Return the recall that a question about keeping is about."""
        return MEASURES[self.question.measure.name.removeprefix("kept_")]

    def _unmeasured(self, found: Estimate | None) -> Iterator[str]:
        """Name the seeds that are trained but not measured."""
        better, worse = map(self.results.finals, self.question.arms)
        if left := _left([seed for seed in better if seed in worse], found):
            yield f"Not measured: {self.question.measure.title} (seeds {_listed(left)})."

    def _unlearned(self) -> Iterator[str]:
        """Name the arms whose first phase learned nothing that the second could lose."""
        measure = self._recall()
        chance = self.results.chance_of(measure.parts)
        for arm in self.question.arms:
            title = self.results.settings.title(arm)
            found = estimate(self._at_boundary(arm), measure, self.sampler)
            left = _left(self.results.finals(arm), found)
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
        measure = self.question.measure
        for arm in self.question.arms:
            title, found = self.results.settings.title(arm), self._gained(arm)
            left = _left(self.results.finals(arm), found)
            if found is None or left:
                seeds = f"(seeds {_listed(left)})"
                yield f"Not measured: {measure.title} of {title} minus the untrained model {seeds}."
            elif found.high >= 0:
                number = measure.interval(found, measure.difference_unit, signed=True)
                yield (
                    f"{title} has not learned phones: {measure.title} minus the untrained model's is "
                    f"{number}, which is not below 0."
                )

    def _without_model(self) -> Iterator[str]:
        """Say whether both models are behind features without a model, so that neither is worth much."""
        measure = self.question.measure
        found = [estimate(self.results.finals(arm), measure, self.sampler) for arm in self.question.arms]
        for name, value in self.results.baselines.items():
            if all(one is not None and measure.is_better(_fixed(value), one.low) for one in found):
                yield (
                    f"Not at this size: both models are behind {name.upper()}, which no training made "
                    f"({measure.title}: {measure.text(value)} {measure.unit}); whose phones are better says "
                    "little before that."
                )


HALF_LIFE = Measure("half_life", "half-life", "updates", float("inf"), ())


def _fixed(value: float) -> Estimate:
    return Estimate(value, value, value, {}, float("nan"), 0.0, 0)


def _left(seeds: Iterable[int], found: Estimate | None) -> list[int]:
    """Return the seeds that an estimate lacks."""
    return [seed for seed in seeds if found is None or seed not in found.per_seed]


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(str(number) for number in numbers)
