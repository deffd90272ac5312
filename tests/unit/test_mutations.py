"""Some damaged inputs of every kind; ``python tests/support/mutate.py`` tries thousands (CONTRIBUTING.md)."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import PIL
import pytest
from support import mutate
from support.mutate import Kind, load_kind, mutate_and_read

from fairseq_vgs.files.faults import FaultError

COUNTS = {"audio": 20, "pictures": 40, "tables": 20, "textgrids": 60, "checkpoints": 4}


@pytest.mark.parametrize("name", COUNTS)
def test_damaged_inputs_are_read_alike_or_refused_by_name(name: str, tmp_path: Path) -> None:
    outcomes = mutate_and_read(load_kind(name), range(COUNTS[name]), seed=7, folder=tmp_path)
    assert (outcomes.unnamed, outcomes.differing) == ([], [])
    assert sum(outcomes.read.values()) + sum(outcomes.refused.values()) == COUNTS[name]
    assert outcomes.refused


@pytest.mark.parametrize("name", COUNTS)
def test_whole_inputs_are_read(name: str, tmp_path: Path) -> None:
    """Otherwise damage would have nothing to break."""
    kind = load_kind(name)
    unread = {"TIFF F", "TIFF LAB"}
    if int(PIL.__version__.partition(".")[0]) < 13:  # which decodes uncompressed YCbCr
        unread.add("TIFF YCbCr")
    originals = {content: original for original, content in kind.originals.items() if content}
    for content, original in originals.items():
        if original not in unread:
            assert kind.read(original, content, tmp_path)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_the_harness_sees_faults(tmp_path: Path) -> None:
    def read(name: str, content: bytes, folder: Path) -> str:
        if name == "unnamed":
            raise KeyError(name)
        if name == "refused":
            raise FaultError.at("a.wav", "no", "sound.cut")
        mutate.agree("doors", holds=name != "differing")
        if name == "large":
            np.ones(1 << 23).sum()
        if name == "slow":
            end = time.process_time() + 0.1
            while time.process_time() < end:
                pass
        return name

    names = ("read", "refused", "unnamed", "differing", "large", "slow")
    kind = Kind(dict.fromkeys(names, b"x"), lambda _, content, draws: content, read, 0.04, 1 << 25)
    outcomes = mutate_and_read(kind, range(40), seed=0, folder=tmp_path)
    assert set(outcomes.refused) == {"sound.cut"}
    assert {failure.split()[1] for failure in outcomes.unnamed} == {"unnamed:"}
    assert {failure.split()[1] for failure in outcomes.differing} == {"differing:", "large:", "slow:"}
