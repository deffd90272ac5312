"""What a study was to answer and how, with the time at which that was last changed.

A question that was put, a margin that was widened or a seed that was added after results were there is worth
less than one that was declared before. Nothing is refused here; it is written down and shown on the page.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fairseq_vgs.files.atomic import write_text
from fairseq_vgs.files.texts import read_object
from fairseq_vgs.study.plan import StudyFolder
from fairseq_vgs.study.questions import Question, questions_of
from fairseq_vgs.study.settings import StudySettings

_STEP = "restore it from a copy, or remove it, which forgets when the study was declared"


@dataclass(frozen=True)
class Declaration:
    """What was declared at a time, when ``n_finished`` runs had been trained and evaluated."""

    at: str
    n_finished: int
    content: Mapping[str, Any]

    def changes(self, before: Mapping[str, Any]) -> list[str]:
        """Say in words what is new, changed or gone."""
        found = []
        for name in dict.fromkeys([*before, *self.content]):
            old, new = before.get(name), self.content.get(name)
            if old != new:
                what = "new" if name not in before else "withdrawn" if name not in self.content else "changed"
                found.append(f"{name} {what}: {_words(new if new is not None else old)}")
        return found


def declared(settings: StudySettings) -> dict[str, Any]:
    """Return what a study declares: seeds, arms, and each question with its measure and margin."""
    questions = {f"question {one.name}": _question(one) for one in questions_of(settings)}
    return {
        "split": settings.split,
        "seeds": list(settings.seeds),
        "arms": list(settings.names),
        **questions,
    }


def declare(folder: StudyFolder, settings: StudySettings, *, n_finished: int) -> None:
    """Write down what a study declares, unless that is what it declared last."""
    known, now = read_declared(folder), declared(settings)
    if known and known[-1].content == now:
        return
    at = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    entries = [*known, Declaration(at, n_finished, now)]
    listed = [{"at": one.at, "n_finished": one.n_finished, "content": one.content} for one in entries]
    text = json.dumps({"declared": listed}, indent=1, ensure_ascii=False)
    write_text(folder.declared, f"{text}\n", force=True)


def read_declared(folder: StudyFolder) -> list[Declaration]:
    """Read what a study declared over time, the earliest first; nothing before it has run."""
    if not folder.declared.is_file():
        return []
    listed = read_object(folder.declared, _STEP).get("declared", [])
    return [Declaration(str(one["at"]), int(one["n_finished"]), one["content"]) for one in listed]


def declaration_rows(found: Sequence[Declaration]) -> list[tuple[str, int, list[str]]]:
    """Return (time, runs finished by then, changes) of every declaration."""
    before: Mapping[str, Any] = {}
    rows = []
    for one in found:
        rows.append((one.at, one.n_finished, one.changes(before)))
        before = one.content
    return rows


def _question(question: Question) -> dict[str, Any]:
    return {
        "claim": question.claim,
        "better": question.better,
        "worse": question.worse,
        "measure": question.measure.name,
        "margin": question.margin,
    }


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{key} {entry}" for key, entry in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
