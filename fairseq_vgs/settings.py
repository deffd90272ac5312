"""Settings of registered entries: declared by the entry, filled in from a run's configuration, and checked.

An entry of a registry declares its settings as a dataclass: either its attribute ``Settings``, an instance of
which it takes, or the entry itself.

```python
@IMAGE_ENCODERS.register("mine")
class MyEncoder(nn.Module):
    @dataclass(frozen=True)
    class Settings(ImageEncoderSettings):
        window: int = 7
        dropout: float = from_config("image_dropout", default=0.1)  # follows model.image_dropout
```

Where ``model.image_encoder`` chooses the entry, ``model.image_encoder_settings={window: 5}`` sets its fields.
A field declared with `from_config` follows a configuration key, unless the entry's settings override it.
Only the standard library is imported.
"""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from fairseq_vgs.files.faults import FaultError, fault
from fairseq_vgs.registry import Registry

T = TypeVar("T")

_CONFIG_KEY = "fairseq_vgs.config_key"


class SettingError(ValueError):
    """Invalid value of a field; raised by a settings dataclass or by the entry that takes it."""

    def __init__(self, name: str, expected: str, got: object) -> None:
        super().__init__(name, expected, got)
        self.name, self.expected, self.got = name, expected, got

    def __str__(self) -> str:
        return f"{self.name}: expected {self.expected}, got {self.got!r}"


def bad_setting(
    place: str, expected: str, got: object, step: str = "change the setting", *, code: str = "setting.value"
) -> FaultError:
    """Build the error for a configuration key ``place``, such as ``model.vgs_layer``."""
    return FaultError(fault(place, f"expected {expected}", got, step, code=code))


def from_config(key: str, *, default: Any) -> Any:
    """Declare a field that follows a key of the same section of the configuration, unless that is null."""
    return dataclasses.field(default=default, metadata={_CONFIG_KEY: key})


def setting(default: Any, text: str) -> Any:
    """Declare a field of a configuration dataclass of fairseq, with its help; a list is copied."""
    if isinstance(default, list):
        return dataclasses.field(default_factory=default.copy, metadata={"help": text})
    return dataclasses.field(default=default, metadata={"help": text})


def find_entry(registry: Registry[T], key: str, name: object) -> T:
    """Return the entry that a configuration key names.

    Raises:
        FaultError: ``setting.choice``: no entry has that name.
    """
    if str(name) in registry:
        return registry[str(name)]
    step = (
        "correct the name or, if an extension registers it, make that importable and list its module in "
        "FAIRSEQ_VGS_EXTENSIONS"
    )
    raise bad_setting(key, f"one of {', '.join(sorted(registry))}", str(name), step, code="setting.choice")


def build_entry(registry: Registry[Any], key: str, config: Any) -> Any:
    """Build the entry that a configuration chooses, with its settings.

    Args:
        registry: where the entry is registered.
        key: ``section.option`` that names it; ``section.option_settings`` holds its own settings.
        config: that section.

    Raises:
        FaultError: ``setting.choice``, ``setting.unknown`` or ``setting.value``, at the key concerned.
    """
    option = key.partition(".")[2]
    entry = find_entry(registry, key, getattr(config, option))
    declared = getattr(entry, "Settings", entry)
    given = getattr(config, f"{option}_settings", None)
    values, places = _gather(declared, key, config, {} if given is None else given)
    try:
        settings = declared(**values)
        return settings if declared is entry else entry(settings)
    except SettingError as error:
        place = places.get(error.name, f"{key}_settings.{error.name}")
        raise bad_setting(place, error.expected, error.got) from error


def entry_settings(registry: Registry[Any], key: str, config: Any) -> Any:
    """Return the settings with which `build_entry` has built the entry that a configuration chooses."""
    option = key.partition(".")[2]
    entry = find_entry(registry, key, getattr(config, option))
    declared = getattr(entry, "Settings", entry)
    values, _ = _gather(declared, key, config, getattr(config, f"{option}_settings", None) or {})
    return declared(**values)


def config_of(declared: Any, option: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a section under which `build_entry` gives an entry these settings.

    Args:
        declared: the entry's settings dataclass.
        option: the key that chooses the entry, such as ``speech_head``.
        settings: values of its fields, not necessarily all.
    """
    shared = {field.name: field.metadata.get(_CONFIG_KEY) for field in dataclasses.fields(declared)}
    own = {name: value for name, value in settings.items() if shared.get(name) is None}
    keys = {str(shared[name]): value for name, value in settings.items() if name not in own}
    return {**keys, f"{option}_settings": own or None}


def _gather(declared: Any, key: str, config: Any, given: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the values of a settings dataclass, and the configuration key that each comes from."""
    fields = {field.name: field for field in dataclasses.fields(declared)}
    if not isinstance(given, Mapping):
        raise bad_setting(f"{key}_settings", "settings by name, like {window: 7}", given)
    if unknown := [name for name in given if name not in fields]:
        own = [name for name, field in fields.items() if _CONFIG_KEY not in field.metadata]
        known = f"its settings are {', '.join(own or fields) or 'none'}"
        step = "correct or remove it"
        raise FaultError(
            fault(f"{key}_settings.{name}", known, name, step, code="setting.unknown") for name in unknown
        )
    hints = typing.get_type_hints(declared)
    values, places = {}, {}
    for name, field in fields.items():
        shared = field.metadata.get(_CONFIG_KEY)
        if name in given:
            value, place = given[name], f"{key}_settings.{name}"
        elif shared is not None and getattr(config, shared, None) is not None:
            value, place = getattr(config, shared), f"{key.partition('.')[0]}.{shared}"
        else:
            continue
        places[name] = place
        try:
            values[name] = _convert(value, hints[name])
        except TypeError as error:
            raise bad_setting(place, str(error), value) from error
    return values, places


def _convert(value: Any, kind: Any) -> Any:
    """Convert a value from YAML to its annotated type; a TypeError says what was expected."""
    if isinstance(value, enum.Enum):
        value = str(value)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _convert(value, next(argument for argument in arguments if argument is not type(None)))
    if origin is typing.Literal:
        if value not in arguments:
            raise TypeError(f"one of {', '.join(map(str, arguments))}")
        return value
    if origin is tuple:
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise TypeError("a list, like [1, 2]")
        return tuple(_convert(item, arguments[0]) for item in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind in (bool, int, float, str) and type(value) is not kind:
        raise TypeError({bool: "true or false", int: "an integer", float: "a number", str: "text"}[kind])
    return value
