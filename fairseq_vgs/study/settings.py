"""The study file: which scenarios, seeds and data, and how long each phase is."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import MISSING

from fairseq_vgs.configs import embedded_data
from fairseq_vgs.configs.scenarios import SCENARIOS
from fairseq_vgs.study.arms import (
    Arm,
    ArmSettings,
    SweepSettings,
    named_arm,
    scenario_arm,
    swept_arms,
    swept_name,
)

MARGIN = 2.0  # percentage points; smaller differences are no differences, unless a question says otherwise


@dataclass
class QuestionSettings:
    """An entry of the study file's ``questions``.

    Attributes:
        finding: one of the paper's, whose claim, arms and measures are taken over where nothing else is said.
        name: short name, in files (default: the finding's).
        claim: what is to be shown, in one sentence.
        better: scenario or arm that the claim says is better; than ``worse``.
        measure: what decides, such as "r10", "mrr", "abx" or "kept_r10".
        margin: differences within ± this much count as none, in the measure's unit; null: none do.
    """

    finding: str | None = None
    name: str | None = None
    claim: str | None = None
    better: str | None = None
    worse: str | None = None
    measure: str | None = None
    margin: float | None = MARGIN


@dataclass
class PilotSettings:
    """What ``--pilot`` changes, and how narrow the study's intervals are to be.

    Attributes:
        split: split of ``data`` for retrieval, on which settings may be chosen.
        seeds: every scenario and arm runs once with each.
        precision: half of the interval that is wanted for the differences that answer the questions.
    """

    split: str = "valid"
    seeds: list[int] = field(default_factory=lambda: [101, 102, 103])
    precision: float = 4.0


class Prepared(NamedTuple):
    """A folder that ``fairseq-vgs prepare`` makes: its setting, template, and the key of the arguments."""

    name: str
    folder: str
    key: str
    arguments: list[str]


@dataclass
class StudySettings:
    """What a study runs. Paths are relative to the working directory.

    Attributes:
        data: data folder of all runs; ``{output}`` is replaced by the study's folder, ``{embedded}`` by the
            embedded data.
        prepare: arguments of ``fairseq-vgs prepare``, run once if ``data`` is missing; empty for none.
        split: split of ``data`` for retrieval.
        abx: folder with an audio list, its speech and ``items``; None for no phone discrimination.
            ``{embedded}`` is replaced as well.
        abx_items: the item file in ``abx``.
        abx_speakers: "within", which decides, and optionally "across".
        lexical: data folder of single words for the lexical test; None for none. ``{output}`` and
            ``{embedded}`` are replaced.
        prepare_lexical: arguments of ``fairseq-vgs prepare``, run once if ``lexical`` is missing.
        lexical_split: split of ``lexical``.
        contrasts: pairs of scenarios; each is compared on every measure, the first minus the second.
        scenarios: names of primaries in ``config_dir``.
        seeds: every scenario runs once with each.
        whole_updates: updates of a base scenario.
        first_updates: updates of a base run before the second phase; scheduled scenarios need it.
        second_updates: updates of a second phase; scheduled scenarios need it.
        warmup_share: share of a phase's schedule that warms up.
        evaluate_every: updates between saved and evaluated checkpoints.
        evaluate_at: more updates of second phases after which a checkpoint is saved and evaluated.
        arms: scenarios with other settings or lengths, by name.
        sweeps: arms with every value of one setting, by name.
        questions: what the study is asked, with primary measures and margins (default: the paper's findings).
        pilot: what ``--pilot`` changes.
        overrides: configuration overrides of every run, as for fairseq-hydra-train.
        config_dir: folder of the primaries (default: that of the study file, or else the package's own).
    """

    data: str = MISSING
    whole_updates: int = MISSING
    evaluate_every: int = MISSING
    first_updates: int = 0
    second_updates: int = 0
    config_dir: str = MISSING
    prepare: list[str] = field(default_factory=list)
    split: str = "test"
    abx: str | None = None
    abx_items: str = "triphone.item"
    abx_speakers: list[str] = field(default_factory=lambda: ["within"])
    lexical: str | None = None
    prepare_lexical: list[str] = field(default_factory=list)
    lexical_split: str = "test"
    contrasts: list[Any] = field(default_factory=list)
    scenarios: list[str] = field(default_factory=lambda: list(SCENARIOS))
    seeds: list[int] = field(default_factory=lambda: [1, 2, 3])
    warmup_share: float = 0.1
    overrides: list[str] = field(default_factory=list)
    evaluate_at: list[int] = field(default_factory=list)
    arms: dict[str, ArmSettings] = field(default_factory=dict)
    sweeps: dict[str, SweepSettings] = field(default_factory=dict)
    questions: list[QuestionSettings] = field(default_factory=list)
    pilot: PilotSettings = field(default_factory=PilotSettings)

    @property
    def abx_folder(self) -> Path | None:
        """The folder of the ABX items."""
        return None if self.abx is None else Path(with_embedded(self.abx))

    @property
    def prepared(self) -> tuple[Prepared, ...]:
        """The folders that ``prepare`` makes if they are missing."""
        words = Prepared("lexical", self.lexical or "", "prepare_lexical", self.prepare_lexical)
        found = (Prepared("data", self.data, "prepare", self.prepare), words)
        return tuple(one for one in found if one.arguments)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all that is compared: scenarios, arms, then the arms of sweeps."""
        swept = (
            swept_name(arm, name, value)
            for name, entry in self.sweeps.items()
            for value in entry.values
            for arm in entry.arms
        )
        return tuple(dict.fromkeys([*self.scenarios, *self.arms, *swept]))

    def arm(self, name: str) -> Arm:
        """Return a scenario or arm by its name, or that of a first phase."""
        return self._known[name]

    def title(self, name: str) -> str:
        """Return what a scenario or arm is called."""
        return self.arm(name).title if name in self._known else name

    def updates_of(self, name: str) -> int:
        """Return the updates of a scenario or arm, all phases together."""
        return self.arm(name).total_updates

    @property
    def _known(self) -> dict[str, Arm]:
        return {**self._single, **{arm.name: arm for arm in self._swept}}

    @property
    def _single(self) -> dict[str, Arm]:
        lengths = {"whole": self.whole_updates, "first": self.first_updates, "second": self.second_updates}
        known: dict[str, Arm] = {name: scenario_arm(name, **lengths) for name in SCENARIOS}
        for name, entry in self.arms.items():
            known[name] = named_arm(name, entry, known[entry.scenario])
        return known

    @property
    def _swept(self) -> list[Arm]:
        return [arm for name, entry in self.sweeps.items() for arm in swept_arms(name, entry, self._single)]

    def as_json(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        return asdict(self)


def with_embedded(text: str) -> str:
    """Replace ``{embedded}`` in a path, whose place differs between installations."""
    return text.replace("{embedded}", str(embedded_data()))
