"""Settings of a study file that cannot be, or not together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from fairseq_vgs.configs.scenarios import BASES, SCENARIOS
from fairseq_vgs.metrics.abx.plan import SPEAKER_MODES
from fairseq_vgs.study.arms import Arm
from fairseq_vgs.study.questions import question_checks
from fairseq_vgs.study.settings import StudySettings

_Check = tuple[bool, str, str, Any]  # whether it is met, setting, expectation, value
_KEYS = {1: ("whole_updates",), 2: ("first_updates", "second_updates")}  # by the number of phases
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]*")


def conflicts(settings: StudySettings) -> list[tuple[str, str, Any]]:
    """Return (setting, expectation, value) of impossible settings, without those that follow from others."""
    for checks in (_plain, _arms, _sweeps, _lengths, _questions):
        found = [(name, expected, got) for is_met, name, expected, got in checks(settings) if not is_met]
        if found:
            return [one for place, one in enumerate(found) if one not in found[:place]]
    return []


def _plain(settings: StudySettings) -> Iterator[_Check]:
    for one in settings.scenarios:
        yield one in SCENARIOS, "scenarios", f"one of {', '.join(SCENARIOS)}", one
    yield _are_different(settings.seeds), "seeds", "different entries, at least one", list(settings.seeds)
    names, needed = settings.scenarios, "different entries, at least one where there are no arms"
    is_met = len(set(names)) == len(names) and bool(names or settings.arms)
    yield is_met, "scenarios", needed, list(names)
    modes = sorted(settings.abx_speakers)
    is_met = modes in (["within"], sorted(SPEAKER_MODES))
    yield is_met, "abx_speakers", "[within] or [within, across]", list(settings.abx_speakers)
    for name in ("whole_updates", "evaluate_every"):
        yield getattr(settings, name) >= 1, name, "at least 1", getattr(settings, name)
    yield 0 <= settings.warmup_share < 1, "warmup_share", "a number in 0..1", settings.warmup_share
    for name, path, key, _ in settings.prepared:
        yield "{output}" in path, name, f"a path below {{output}}, since {key} makes it", path
    at = settings.evaluate_at
    yield not at or (_are_different(at) and min(at) >= 1), "evaluate_at", "different updates from 1 on", at


def _arms(settings: StudySettings) -> Iterator[_Check]:
    bases = [*BASES, *(name for name, one in settings.arms.items() if one.scenario in BASES)]
    for name, one in settings.arms.items():
        key = f"arms.{name}"
        is_free = bool(_NAME.fullmatch(name)) and name not in SCENARIOS
        yield is_free, key, "letters, digits, _, + and -, and no scenario's name", name
        expected = f"one of {', '.join(SCENARIOS)}"
        yield one.scenario in SCENARIOS, f"{key}.scenario", expected, one.scenario
        n_phases = 1 if one.scenario in BASES else 2
        expected = f"as many numbers as phases ({n_phases}), or none"
        yield len(one.updates) in (0, n_phases), f"{key}.updates", expected, list(one.updates)
        if one.first is not None:
            is_met = n_phases == 2 and one.first in bases
            expected = f"one of {', '.join(bases)}, of a scenario with two phases"
            yield is_met, f"{key}.first", expected, one.first


def _sweeps(settings: StudySettings) -> Iterator[_Check]:
    known = [*SCENARIOS, *settings.arms]
    for name, one in settings.sweeps.items():
        key = f"sweeps.{name}"
        yield bool(_NAME.fullmatch(name)), key, "letters, digits, _, + and -", name
        yield (
            _are_different(map(str, one.values)),
            f"{key}.values",
            "different values, at least one",
            one.values,
        )
        is_met = _are_different(one.arms) and all(arm in known for arm in one.arms)
        yield is_met, f"{key}.arms", f"different entries of {', '.join(known)}", list(one.arms)
        is_met = "=" not in one.setting and "." in one.setting
        yield is_met, f"{key}.setting", "a key of the configuration, such as criterion.margin", one.setting


def _lengths(settings: StudySettings) -> Iterator[_Check]:
    names, every = settings.names, settings.evaluate_every
    scheduled = [arm for arm in map(settings.arm, names) if not arm.is_base]
    for arm in map(settings.arm, names):
        for key, n in zip(_places(arm, settings), arm.updates, strict=True):
            yield n >= 1, key, "at least 1", n
            yield n % every == 0, key, f"a multiple of evaluate_every ({every})", n
    yield (
        settings.whole_updates % every == 0,
        "whole_updates",
        f"a multiple of evaluate_every ({every})",
        (settings.whole_updates),
    )
    for arm in scheduled:
        whole = settings.updates_of(str(arm.first))
        expected = "fewer than whole_updates" if arm.first in SCENARIOS else f"fewer than {arm.first} has"
        yield arm.updates[0] < whole, _places(arm, settings)[0], f"{expected} ({whole})", arm.updates[0]
    shortest = min((arm.updates[1] for arm in scheduled), default=None)
    for n in settings.evaluate_at:
        is_met = shortest is not None and n < shortest
        yield is_met, "evaluate_at", f"fewer than the shortest second phase has ({shortest})", n
    pairs = f"pairs of two different scenarios or arms of this study ({', '.join(names)})"
    for one in settings.contrasts:
        yield _is_pair(one, names), "contrasts", pairs, one


def _questions(settings: StudySettings) -> Iterator[_Check]:
    yield from question_checks(settings)
    pilot = settings.pilot
    yield _are_different(pilot.seeds), "pilot.seeds", "different entries, at least one", list(pilot.seeds)
    yield pilot.precision > 0, "pilot.precision", "above 0", pilot.precision


def _places(arm: Arm, settings: StudySettings) -> tuple[str, ...]:
    """Return the settings that the lengths of an arm's phases come from."""
    entry = settings.arms.get(arm.name)
    if entry is not None and entry.updates:
        return tuple(f"arms.{arm.name}.updates" for _ in arm.updates)
    return _KEYS[len(arm.updates)]


def _are_different(entries: Iterable[Any]) -> bool:
    found = list(entries)
    return 0 < len(set(found)) == len(found)


def _is_pair(contrast: Any, names: Sequence[str]) -> bool:
    """Whether an entry of ``contrasts`` names two different ones."""
    if not isinstance(contrast, list) or len(contrast) != 2:
        return False
    return contrast[0] != contrast[1] and all(name in names for name in contrast)
