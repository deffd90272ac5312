"""Registries, from inside and outside the package."""

import sys

import pytest

from fairseq_vgs.registry import Registry


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
