"""The examples of the public face run, in a folder with a run, recordings and pictures."""

from __future__ import annotations

import doctest
import importlib
import shutil

import pytest

MODULES = ("load", "model", "heat_map", "mteb_encoder", "retrieval")


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, run, media, tmp_path, monkeypatch):
    shutil.copytree(run, tmp_path / "run")
    for path in media.iterdir():
        shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(importlib.import_module(f"fairseq_vgs.api.{name}"), optionflags=doctest.ELLIPSIS)
    assert found.attempted > 0
    assert found.failed == 0
