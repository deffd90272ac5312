"""Settings of registered entries: from the configuration's keys, from the entry's own, refused by name."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Literal

import pytest
from support.faults import raises_fault

from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.registry import Registry
from fairseq_vgs.settings import SettingError, build_entry, from_config, setting

DOORS: Registry = Registry("door")


@DOORS.register("swing")
@dataclass(frozen=True)
class Swing:
    width: int = from_config("door_width", default=80)
    angle: float = 90.0
    hinges: tuple[int, ...] = (1, 2)
    side: Literal["left", "right"] = "left"
    label: str | None = None

    def __post_init__(self):
        if self.width < 1:
            raise SettingError("width", "at least 1", self.width)


def build(settings=None, **config):
    config = SimpleNamespace(door="swing", door_settings=settings, **config)
    return build_entry(DOORS, "house.door", config)


def test_a_key_of_the_configuration_is_followed_unless_null():
    assert build() == Swing()
    assert build(door_width=70) == Swing(width=70)
    assert build(door_width=None) == Swing()


def test_own_settings_win_and_are_converted():
    built = build({"width": 60, "angle": 45, "hinges": [3], "side": "right", "label": None}, door_width=70)
    assert built == Swing(60, 45.0, (3,), "right")
    assert isinstance(built.angle, float) and isinstance(built.hinges, tuple)


@pytest.mark.parametrize(
    ("settings", "config", "code", "place"),
    [
        ({"widht": 60}, {}, "setting.unknown", "house.door_settings.widht"),
        ({"angle": "wide"}, {}, "setting.value", "house.door_settings.angle"),
        ({"width": True}, {}, "setting.value", "house.door_settings.width"),
        ({"hinges": "12"}, {}, "setting.value", "house.door_settings.hinges"),
        ({"side": "top"}, {}, "setting.value", "house.door_settings.side"),
        ({"width": 0}, {}, "setting.value", "house.door_settings.width"),
        (None, {"door_width": 0}, "setting.value", "house.door_width"),
        (None, {"door_width": "x"}, "setting.value", "house.door_width"),
        ("angle=3", {}, "setting.value", "house.door_settings"),
    ],
)
def test_impossible_settings_are_named(settings, config, code, place):
    with pytest.raises(FaultError) as caught:
        build(settings, **config)
    assert [(fault.code, fault.place) for fault in caught.value.faults] == [(code, place)]


def test_an_unknown_entry_lists_the_known_ones():
    with raises_fault("setting.choice", "house.door") as caught:
        build_entry(DOORS, "house.door", SimpleNamespace(door="slide"))
    assert "swing" in str(caught.value)
    assert "'slide'" in str(caught.value)


def test_a_list_that_is_a_default_is_not_shared():
    @dataclass
    class Config:
        widths: list = setting([1, 2], "widths")

    Config().widths.append(3)
    assert Config().widths == [1, 2]
