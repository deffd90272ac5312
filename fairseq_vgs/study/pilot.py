"""What a pilot on validation data proposes: how many seeds each question needs.

The pilot measures the deviation s of the paired differences between seeds. Proposed are the seeds whose 95 %
interval is at most ± ``pilot.precision`` wide, and those that find a difference of that size in four of five
studies (80 % power at 5 %: n = 8 (s / d)^2 + 2).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairseq_vgs.files.atomic import write_text
from fairseq_vgs.files.text_tables import text_table
from fairseq_vgs.study.decisions import MOST_SEEDS, seeds_for
from fairseq_vgs.study.verdicts import Verdict

NAME = "pilot.json"
_POWER = 8.0  # (1.96 + 0.84)^2, rounded up


@dataclass(frozen=True)
class Proposal:
    """How many seeds a question needs; None: deviation unknown, or more than ``MOST_SEEDS``."""

    verdict: Verdict
    precision: float
    n_precise: int | None
    n_powered: int | None

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        found = self.verdict.difference
        return {
            "question": self.verdict.question.name,
            "measure": self.verdict.question.measure.name,
            "difference": found.as_json() if found else None,
            "precision": self.precision,
            "seeds_for_precision": self.n_precise,
            "seeds_for_power": self.n_powered,
            "remarks": list(self.verdict.remarks),
        }


def propose(verdicts: Sequence[Verdict], precision: float) -> list[Proposal]:
    """Propose seeds for each question that the pilot measured."""
    return [_proposal(verdict, precision) for verdict in verdicts]


def write_proposals(proposals: Sequence[Proposal], folder: Path) -> Path:
    """Write them as JSON and return the path."""
    path = folder / NAME
    content = [one.as_json() for one in proposals]
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", force=True)
    return path


def proposal_table(proposals: Sequence[Proposal]) -> str:
    """Lay out a table for a terminal."""
    heads = ["question", "measure", "difference", "deviation", "seeds for interval", "seeds for power"]
    return text_table([heads, *(_row(one) for one in proposals)])


def _row(one: Proposal) -> list[str]:
    found, measure = one.verdict.difference, one.verdict.question.measure
    if found is None:
        return [one.verdict.question.name, measure.name, "-", "-", "-", "-"]
    numbers = [measure.interval(found, signed=True), measure.text(found.seed_sd)]
    seeds = [f"more than {MOST_SEEDS}" if n is None else str(n) for n in (one.n_precise, one.n_powered)]
    if not found.seeds_measured:
        numbers[1], seeds = "-", ["-", "-"]
    return [one.verdict.question.name, measure.name, *numbers, *seeds]


def _proposal(verdict: Verdict, precision: float) -> Proposal:
    found = verdict.difference
    if found is None or not found.seeds_measured:
        return Proposal(verdict, precision, None, None)
    powered = math.ceil(_POWER * (found.seed_sd / precision) ** 2 + 2)
    n_powered = powered if powered <= MOST_SEEDS else None
    return Proposal(verdict, precision, seeds_for(precision, found.seed_sd, found.item_se), n_powered)
