"""What the phases of a training were: the losses of each in words, and the name of their scenario.

A second phase records the place and the hash of the file that it started from. Where that very file is still
there, it says the rest; another one is not read, since a checkpoint may come from anybody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fairseq_vgs.checkpoints.load import read_history, section
from fairseq_vgs.configs.scenarios import base_of, scenario_of, scenario_title
from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.files.provenance import sha256_once
from fairseq_vgs.losses import ALPHA_SCHEDULES
from fairseq_vgs.settings import SettingError, build_entry

_MOST_PHASES = 8
_ORIGINS = {"fast-vgs": "FaST-VGS", "hub": "an exported folder", "wav2vec2": "wav2vec 2.0"}
_UNKNOWN = "the checkpoint does not say"


@dataclass(frozen=True)
class Phase:
    """One run of a training.

    Attributes:
        bases: what it trained, one after the other: ``w2v2``, ``vgs`` or ``vgs_plus``; empty where alpha
            follows a schedule without such parts, or is unknown.
        losses: their weights, in words.
        n_updates: updates made.
    """

    bases: tuple[str, ...]
    losses: str
    n_updates: int

    @property
    def title(self) -> str:
        """Name it as the paper does: "VGS+"; empty if it is none of the bases."""
        return ", then ".join(map(scenario_title, self.bases))


@dataclass(frozen=True)
class Phases:
    """The phases of a training, the first one first.

    Attributes:
        known: what files tell.
        origin: what the first of them started from, in words; empty for weights that were drawn.
        is_whole: no phase is unknown.
        files: checkpoints of earlier phases that were read, the latest first.
    """

    known: tuple[Phase, ...]
    origin: str = ""
    is_whole: bool = True
    files: tuple[Path, ...] = ()

    @property
    def bases(self) -> tuple[str, ...]:
        """Return what all phases trained, the first one first; ``unknown`` where files do not tell.

        Weights of wav2vec 2.0 are no phase: they know no images.
        """
        is_speech_alone = not self.origin or self.origin.startswith(_weights_of("wav2vec2"))
        start = () if is_speech_alone else ("unknown",)
        return start + tuple(base for phase in self.known for base in phase.bases or ("unknown",))

    @property
    def scenario(self) -> str | None:
        """Name the scenario, if all phases are known and it is one of the nine: ``w2v2_then_vgs``."""
        if not self.is_whole or any(len(phase.bases) != 1 for phase in self.known):
            return None
        return scenario_of([phase.bases[0] for phase in self.known])

    @property
    def title(self) -> str:
        """Return the scenario's name in the paper: "(W2V2, VGS)"; empty if it is none of the nine."""
        return scenario_title(self.scenario) if self.scenario else ""


def read_phases(path: Path) -> Phases:
    """Return the phases of a checkpoint's training, as far as files tell.

    The file from which a phase started counts if it has the hash that the phase recorded.

    Raises:
        CheckpointError: the checkpoint itself cannot be read.
    """
    known: list[Phase] = []
    files: list[Path] = []
    history = read_history(path)
    while True:
        if history.imported and not history.n_updates:
            return Phases(tuple(known), _origin(history.imported), files=tuple(files))
        known.insert(0, Phase(*_losses(section(history.config, "criterion")), history.n_updates))
        recorded = section(history.config, "checkpoint").get("finetune_from_model")
        if not recorded:
            return Phases(tuple(known), files=tuple(files))
        start = Path(str(recorded))
        try:
            if len(known) == _MOST_PHASES or not _is_recorded(start, history.started_from):
                break
            history = read_history(start)
        except (OSError, ValueError, FaultError):
            break
        files.append(start)
    origin = f"`{_printable(start.name)}`, whose training is unknown here"
    return Phases(tuple(known), origin, is_whole=False, files=tuple(files))


def _is_recorded(start: Path, record: Mapping[str, Any]) -> bool:
    has_record = bool(record.get("sha256")) and start.is_absolute() and start.is_file()
    return has_record and sha256_once(start) == record["sha256"]


def _origin(imported: Mapping[str, Any]) -> str:
    """Say where converted weights came from."""
    source = _printable(str(imported.get("source", "unknown")))
    return f"{_weights_of(str(imported.get('format')))} (`{source}`)"


def _weights_of(kind: str) -> str:
    return f"the weights of {_ORIGINS.get(kind, 'another program')}"


def _losses(criterion: Mapping[str, Any]) -> tuple[tuple[str, ...], str]:
    """Return the bases that a criterion trains, and the weights of its losses in words."""
    if criterion.get("_name") == "vgs_contrastive":
        return ("vgs",), "the VGS loss alone"
    if "alpha_values" not in criterion:
        return (), _UNKNOWN
    chosen = {"alpha_schedule": "constant", "alpha_boundaries": (), "seed": 0, **criterion}
    try:
        schedule = build_entry(ALPHA_SCHEDULES, "criterion.alpha_schedule", SimpleNamespace(**chosen))
        return tuple(map(base_of, schedule.pieces())), str(schedule)
    except (FaultError, SettingError, TypeError, ValueError):  # of an extension that is not here
        values = _printable(f"{criterion.get('alpha_schedule')} {criterion['alpha_values']}")
        return (), f"alpha by the schedule {values}"


def _printable(text: str) -> str:
    """Return text for Markdown's tables and code, from a file that anybody may have written."""
    return "".join(letter for letter in text if letter.isprintable() and letter not in "`|")
