"""base.yaml lists every setting of the plugin: only listed ones can be overridden on the command line."""

import dataclasses
import itertools
from pathlib import Path

import pytest
from fairseq.criterions import CRITERION_DATACLASS_REGISTRY
from fairseq.models import MODEL_DATACLASS_REGISTRY
from fairseq.tasks import TASK_DATACLASS_REGISTRY
from omegaconf import OmegaConf

import fairseq_vgs  # noqa: F401 - registers the classes

BASE = Path(__file__).parents[2] / "examples" / "vgs" / "base.yaml"
REGISTRIES = {
    "task": TASK_DATACLASS_REGISTRY,
    "model": MODEL_DATACLASS_REGISTRY,
    "criterion": CRITERION_DATACLASS_REGISTRY,
}


def registered(section):
    """Return the plugin's config classes of a section."""
    return [config for name, config in REGISTRIES[section].items() if name.startswith("vgs_")]


def own_settings(section):
    """Return name -> field of what the plugin's classes add to fairseq's."""
    return {
        field.name: field
        for config in registered(section)
        for field in dataclasses.fields(config)
        if not _is_fairseqs(config, field.name)
    }


def _is_fairseqs(config, name):
    bases = [base for base in config.__mro__ if base.__module__.split(".")[0] == "fairseq"]
    return any(name in getattr(base, "__dataclass_fields__", {}) for base in bases)


def listed(section):
    return OmegaConf.to_container(OmegaConf.load(BASE)[section], resolve=False)


@pytest.mark.parametrize("section", REGISTRIES)
def test_every_setting_is_listed(section):
    assert own_settings(section)
    assert set(own_settings(section)) <= set(listed(section))


@pytest.mark.parametrize("section", REGISTRIES)
def test_every_listed_key_is_a_setting(section):
    known = {field.name for config in registered(section) for field in dataclasses.fields(config)}
    assert set(listed(section)) <= known | {"_name"}


@pytest.mark.parametrize("section", REGISTRIES)
def test_every_setting_has_help(section):
    """Except those that only repeat another section's setting."""
    own = own_settings(section).items()
    assert not [name for name, field in own if not (field.metadata.get("help") or "${" in str(field.default))]


@pytest.mark.parametrize("section", REGISTRIES)
def test_listed_values_are_the_defaults(section):
    values = listed(section)
    for name, field in own_settings(section).items():
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        if name not in values or "${" in f"{default}{values[name]}" or "???" in f"{default}{values[name]}":
            continue
        value = values[name]
        if isinstance(value, float):
            assert value == pytest.approx(default, rel=1e-6), name
        else:
            assert str(value) == str(default), name


@pytest.mark.parametrize("section", REGISTRIES)
def test_every_listed_setting_has_a_comment(section):
    """Behind it, or in the line above."""
    block = BASE.read_text(encoding="utf-8").split(f"\n{section}:\n")[1].split("\n\n")[0]
    lines = ["", *block.splitlines()]
    keys = {
        line.split(":")[0].strip(): " # " in line or above.lstrip().startswith("# ")
        for above, line in itertools.pairwise(lines)
        if not line.lstrip().startswith("#")
    }
    assert set(keys) == set(listed(section))
    assert not [key for key, commented in keys.items() if not commented and key != "_name"]
