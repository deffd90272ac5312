"""The study file: which scenarios, seeds and data, and how long each phase is."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from fairseq_vgs.configs import config_dir, embedded_data
from fairseq_vgs.configs.scenarios import BASES, SCENARIOS, phases_of
from fairseq_vgs.files.faults import FaultError, fault, raise_any
from fairseq_vgs.files.spelling import nearest
from fairseq_vgs.files.yaml_files import load_yaml
from fairseq_vgs.metrics.abx import read_items
from fairseq_vgs.metrics.abx.plan import SPEAKER_MODES, require_speakers

_Check = tuple[bool, str, str, Any]  # whether it is met, setting, expectation, value

NEXT_STEP = (
    "correct the study file (docs/study.md describes the keys; study.yaml in the folder that fairseq-vgs "
    "configs prints is an example)"
)


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

    def updates_of(self, scenario: str) -> int:
        """Return the updates of a scenario, both phases together."""
        return self.whole_updates if scenario in BASES else self.first_updates + self.second_updates

    def as_json(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        return asdict(self)


def with_embedded(text: str) -> str:
    """Replace ``{embedded}`` in a path, whose place differs between installations."""
    return text.replace("{embedded}", str(embedded_data()))


def read_settings(path: Path, *, quick: bool = False) -> StudySettings:
    """Read a study file; with ``quick`` the settings below its key ``quick`` win.

    Raises:
        FaultError: ``study.file`` or ``setting.value``.
    """
    try:
        content: Any = load_yaml(path)
        if not OmegaConf.is_dict(content):
            raise TypeError("no settings by name")
        _refuse_unknown(path, content)
        quick_settings = content.pop("quick", None) or {}
        schema = OmegaConf.structured(StudySettings)
        shortened: Any = OmegaConf.merge(schema, content, quick_settings)  # checked even if not used
        chosen = shortened if quick else OmegaConf.merge(schema, content)
        if OmegaConf.is_missing(chosen, "config_dir"):
            chosen.config_dir = str(_folder_of_primaries(path.parent, chosen.scenarios))
        settings: Any = OmegaConf.to_object(chosen)
    except (OSError, UnicodeDecodeError, YAMLError, OmegaConfBaseException, TypeError) as error:
        reason = str(error).strip().replace("\n", "; ")
        found = fault(str(path), "must be a study file", reason, NEXT_STEP, code="study.file")
        raise FaultError(found) from error
    raise_any(
        fault(str(path), f"{name} must be {expected}", got, NEXT_STEP, code="setting.value")
        for name, expected, got in _conflicts(settings)
    )
    return settings


def _folder_of_primaries(folder: Path, scenarios: Iterable[str]) -> Path:
    """Return a folder if it has one of the primaries, else that of the package."""
    return folder if any((folder / f"{name}.yaml").is_file() for name in scenarios) else config_dir()


def _refuse_unknown(path: Path, content: Any) -> None:
    """Refuse keys that a study file does not have, naming those that it has."""
    known = [field.name for field in fields(StudySettings)]
    quick = content.get("quick")
    quick_keys = [f"quick.{key}" for key in quick] if OmegaConf.is_dict(quick) else []
    found = []
    for key in [*map(str, content), *quick_keys]:
        name = key.removeprefix("quick.")
        if name in known or key == "quick":
            continue
        near = nearest(name, known)
        step = f"{f'write {near}' if near else 'remove it'}; docs/study.md describes them"
        expected = f"keys must be of {', '.join(known)}, quick"
        found.append(fault(str(path), expected, key, step, code="study.file"))
    raise_any(found)


def require_files(settings: StudySettings, path: Path) -> None:
    """Refuse settings of a study file ``path`` whose files are missing before training starts.

    Raises:
        FaultError: ``file.missing`` for a primary, the data or the ABX items.
        AbxError: the items cannot be compared within or across speakers as set.
    """
    phases = {phases_of(name)[0] for name in settings.scenarios if name not in BASES}
    primaries = {*settings.scenarios, *phases}
    needed = [("config_dir", Path(settings.config_dir) / f"{name}.yaml") for name in primaries]
    items = None if settings.abx_folder is None else settings.abx_folder / settings.abx_items
    if items is not None:
        needed.append(("abx", items))
    for name, folder in (("data", settings.data), ("lexical", settings.lexical)):
        if folder is not None and "{output}" not in folder:  # what lies there, prepare makes
            needed.append((name, Path(with_embedded(folder))))
    step = f"{NEXT_STEP}; paths are relative to the working directory"
    raise_any(
        fault(str(path), f"{name} must name an existing file", f"none at {file}", step, code="file.missing")
        for name, file in sorted(needed)
        if not file.exists()
    )
    if items is not None:
        require_speakers(read_items(items), settings.abx_speakers, place=str(items))


def _conflicts(settings: StudySettings) -> list[tuple[str, str, Any]]:
    """Return (setting, expectation, value) of impossible settings."""
    every, first, whole = settings.evaluate_every, settings.first_updates, settings.whole_updates
    updates = {"whole_updates": whole}
    is_scheduled = any(name not in BASES for name in settings.scenarios)
    if is_scheduled:
        updates |= {"first_updates": first, "second_updates": settings.second_updates}
    pairs = f"pairs of two different scenarios of this study ({', '.join(settings.scenarios)})"
    checks: list[_Check] = [
        *(
            (one in SCENARIOS, "scenarios", f"one of {', '.join(SCENARIOS)}", one)
            for one in settings.scenarios
        ),
        *(
            (0 < len(set(entries)) == len(entries), name, "different entries, at least one", list(entries))
            for name, entries in (("scenarios", settings.scenarios), ("seeds", settings.seeds))
        ),
        (
            sorted(settings.abx_speakers) in (["within"], sorted(SPEAKER_MODES)),
            "abx_speakers",
            "[within] or [within, across]",
            list(settings.abx_speakers),
        ),
        *((n >= 1, name, "at least 1", n) for name, n in {**updates, "evaluate_every": every}.items()),
        (0 <= settings.warmup_share < 1, "warmup_share", "a number in 0..1", settings.warmup_share),
        *(
            ("{output}" in path, name, f"a path below {{output}}, since {key} makes it", path)
            for name, path, key, _ in settings.prepared
        ),
        *((_is_pair(one, settings.scenarios), "contrasts", pairs, one) for one in settings.contrasts),
    ]
    if found := _failed(checks):
        return found
    below = (not is_scheduled or first < whole, "first_updates", f"fewer than whole_updates ({whole})", first)
    expected = f"a multiple of evaluate_every ({every})"
    return _failed([*((n % every == 0, name, expected, n) for name, n in updates.items()), below])


def _is_pair(contrast: Any, scenarios: Sequence[str]) -> bool:
    """Whether an entry of ``contrasts`` names two different scenarios."""
    if not isinstance(contrast, list) or len(contrast) != 2:
        return False
    return contrast[0] != contrast[1] and all(name in scenarios for name in contrast)


def _failed(checks: Iterable[_Check]) -> list[tuple[str, str, Any]]:
    return [(name, expected, got) for is_met, name, expected, got in checks if not is_met]
