"""Registries, from inside and outside the package."""

import sys
from importlib.metadata import EntryPoint

import pytest
from support.faults import raises_fault

from fairseq_vgs.registry import Registry, load_extensions


def test_entries_are_found_by_name():
    losses = Registry("loss")
    losses.register("a")(len)
    assert losses["a"] is len
    assert list(losses) == ["a"]
    assert "b" not in losses


def test_an_unknown_name_lists_the_known_ones():
    losses = Registry("loss")
    losses.register("a")(len)
    with pytest.raises(KeyError, match="loss: expected one of a, got 'b'"):
        losses["b"]


def test_a_name_is_taken_once():
    losses = Registry("loss")
    losses.register("a")(len)
    losses.register("a")(len)  # the same again, as after a reload
    with pytest.raises(ValueError, match="loss 'a' is already registered"):
        losses.register("a")(max)


def test_files_of_a_package_are_imported_at_the_first_look(tmp_path, monkeypatch):
    package = tmp_path / "probes_for_a_test"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from fairseq_vgs.registry import Registry\nPROBES = Registry('probe', __name__)\n"
    )
    (package / "one.py").write_text("from probes_for_a_test import PROBES\nPROBES.register('one')(int)\n")
    monkeypatch.syspath_prepend(tmp_path)
    from probes_for_a_test import PROBES

    assert "probes_for_a_test.one" not in sys.modules
    assert dict(PROBES) == {"one": int}


@pytest.fixture
def extension(tmp_path, monkeypatch):
    """Name a module outside the package that registers an entry."""
    (tmp_path / "extension_for_a_test.py").write_text(
        "from fairseq_vgs.registry import Registry\nTOOLS = Registry('tool')\nTOOLS.register('saw')(len)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield "extension_for_a_test"
    sys.modules.pop("extension_for_a_test", None)
    load_extensions.cache_clear()


def test_modules_named_in_the_environment_are_imported(extension, monkeypatch):
    monkeypatch.setenv("FAIRSEQ_VGS_EXTENSIONS", f" {extension} ,")
    assert list(Registry("loss")) == []
    assert list(sys.modules[extension].TOOLS) == ["saw"]


def test_entry_points_of_installed_packages_are_imported(extension, monkeypatch):
    point = EntryPoint("carpentry", extension, "fairseq_vgs")
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [point][: group == "fairseq_vgs"])
    load_extensions.cache_clear()
    assert list(Registry("loss")) == []
    assert extension in sys.modules


def test_an_extension_that_cannot_be_imported_is_named(monkeypatch):
    monkeypatch.setenv("FAIRSEQ_VGS_EXTENSIONS", "no_such_extension")
    with raises_fault("extension.import", "FAIRSEQ_VGS_EXTENSIONS") as caught:
        list(Registry("loss"))
    assert "'no_such_extension'" in str(caught.value)
