"""What a study is asked: claims that one scenario or arm beats another, by a measure named beforehand.

Without ``questions`` in the study file, these are the three findings of Khorrami et al. (2023). A question
of the file may take one of them over (``finding``) with other arms, measures or margins.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from fairseq_vgs.study.settings import MARGIN, QuestionSettings, StudySettings
from fairseq_vgs.study.statistics import KEPT, MEASURES, Measure


@dataclass(frozen=True)
class Question:
    """A claim that scenario or arm ``better`` beats ``worse``.

    Attributes:
        measure: the deciding (primary) measure; ``secondary`` ones are shown but decide nothing.
        margin: differences within ± this much count as none; None: none do.
        keeps: whether it is about what remains of the first phase, which must have learned it; shows what
            both lose.
        learned: whether both models must be better than the untrained one, and as good as features without
            a model.
    """

    name: str
    claim: str
    better: str
    worse: str
    measure: Measure
    secondary: tuple[Measure, ...] = ()
    margin: float | None = MARGIN
    keeps: bool = False
    learned: bool = False

    @property
    def arms(self) -> tuple[str, str]:
        """Both scenarios or arms, the better one first."""
        return self.better, self.worse

    @property
    def minuend_first(self) -> tuple[str, str]:
        """Both in the order in which a positive difference supports the claim."""
        return (self.worse, self.better) if self.measure.lower_is_better else self.arms


FINDINGS = (
    Question(
        "sequential_beats_simultaneous",
        "Training W2V2 first and VGS then gives better retrieval than training both at once.",
        "w2v2_then_vgs",
        "vgs_plus",
        MEASURES["r10"],
        (MEASURES["r1"], MEASURES["mrr"]),
    ),
    Question(
        "simultaneous_keeps_more",
        "After VGS is switched off, a model that was trained on both at once retrieves better than one that "
        "was trained on VGS alone.",
        "vgs_plus_then_w2v2",
        "vgs_then_w2v2",
        MEASURES["r10"],
        tuple(KEPT.values()),
        keeps=True,
    ),
    Question(
        "vgs_transfers_better",
        "Phones learned with VGS transfer to another corpus better than those learned with W2V2 alone.",
        "vgs",
        "w2v2",
        MEASURES["abx"],
        (MEASURES["abx_across"],),
        learned=True,
    ),
)
_NAMED = {one.name: one for one in FINDINGS}


def questions_of(settings: StudySettings) -> list[Question]:
    """Return the questions of a study file, or else the paper's findings."""
    return [_question(entry) for entry in settings.questions] or list(FINDINGS)


def _question(entry: QuestionSettings) -> Question:
    measure = MEASURES[entry.measure] if entry.measure else None
    if entry.finding is None:
        return Question(
            entry.name or "",
            entry.claim or "",
            entry.better or "",
            entry.worse or "",
            measure or MEASURES["r10"],
            margin=entry.margin,
            keeps=measure in KEPT.values(),
        )
    known = _NAMED[entry.finding]
    chosen = measure or known.measure
    return replace(
        known,
        name=entry.name or known.name,
        claim=entry.claim or known.claim,
        better=entry.better or known.better,
        worse=entry.worse or known.worse,
        measure=chosen,
        secondary=tuple(one for one in (known.measure, *known.secondary) if one != chosen),
        margin=entry.margin,
    )


def question_checks(settings: StudySettings) -> Iterator[tuple[bool, str, str, object]]:
    """Yield whether an entry makes sense, its setting, what is expected and the value."""
    names = settings.names
    for place, entry in enumerate(settings.questions):
        key = f"questions.{place}"
        if entry.finding is None:
            for part in ("name", "claim", "better", "worse", "measure"):
                yield bool(getattr(entry, part)), f"{key}.{part}", "set, or else finding", "nothing"
        else:
            yield entry.finding in _NAMED, f"{key}.finding", f"one of {', '.join(_NAMED)}", entry.finding
        if entry.measure:
            yield entry.measure in MEASURES, f"{key}.measure", f"one of {', '.join(MEASURES)}", entry.measure
        yield entry.margin is None or entry.margin > 0, f"{key}.margin", "above 0, or null", entry.margin
        for part in ("better", "worse"):
            named = getattr(entry, part)
            expected = f"a scenario or arm of this study ({', '.join(names)})"
            yield not named or named in names, f"{key}.{part}", expected, named
    asked = [entry.name or entry.finding for entry in settings.questions]
    yield len(set(asked)) == len(asked), "questions", "questions with different names", asked
