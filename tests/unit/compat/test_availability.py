"""Each unusable fairseq is one fault with the remedy."""

import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import sys

import pytest
from support.faults import raises_fault

from fairseq_vgs.compat import availability as fairseq_check
from fairseq_vgs.files.faults import Fault


@pytest.fixture
def problem():
    """Return ``fairseq_problem`` without what it remembers of this process."""
    return fairseq_check.fairseq_problem.__wrapped__


def test_the_installed_fairseq_is_usable(problem):
    assert problem() is None
    fairseq_check.require_fairseq()


def test_missing(monkeypatch, problem):
    monkeypatch.setitem(sys.modules, "fairseq", None)
    assert (problem().place, problem().code) == ("fairseq", "package.missing")
    assert fairseq_check.REMEDY in problem().message


def test_plain_folder_of_that_name(monkeypatch, problem, tmp_path):
    spec = importlib.machinery.ModuleSpec("fairseq", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    assert problem().code == "package.folder"
    assert str(tmp_path) in str(problem())


@pytest.mark.parametrize("version", ["0.10.2", "0.9.0"])
def test_too_old(monkeypatch, problem, version):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    assert problem().code == "package.version"
    assert version in str(problem())


@pytest.mark.parametrize("version", ["0.12.2", "0.12.3.1", "1.0.0a0", "main"])
def test_later_versions_pass(monkeypatch, problem, version):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    assert problem() is None


def test_fork_under_another_name_passes(monkeypatch, problem):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert problem() is None


def test_broken_package(monkeypatch, problem):
    def fail(name):
        raise ValueError("mutable default\nfor field common")

    monkeypatch.setattr(importlib, "import_module", fail)
    assert problem().code == "package.broken"
    assert "ValueError: mutable default for field common" in str(problem())


def test_require_raises_the_line(monkeypatch):
    monkeypatch.setattr(fairseq_check, "fairseq_problem", lambda: Fault("fairseq", "x", "package.missing"))
    with raises_fault("package.missing", "fairseq", error=fairseq_check.FairseqUnavailableError) as caught:
        fairseq_check.require_fairseq()
    assert isinstance(caught.value, ImportError)
