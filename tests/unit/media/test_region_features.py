from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.faults import raises_fault

from fairseq_vgs.media.region_features import non_finite_rows, open_features


def test_features(tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", np.ones((3, 2), np.float16))
    features = open_features(tmp_path / "f.npy")
    assert isinstance(features, np.memmap)
    assert features.shape == (3, 2)
    assert non_finite_rows(features) == []


class Trap:
    """Runs code when unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a pickle was loaded",))


def write_broken(path: Path, what: str) -> None:
    np.save(path, np.ones((30, 20), np.float16))
    whole = path.read_bytes()
    if what == "object":
        np.save(path, np.array([Trap()], dtype=object), allow_pickle=True)
    elif what == "pickle":
        path.write_bytes(pickle.dumps(Trap()))
    elif what == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif what == "header":
        path.write_bytes(b"\x93NUMPY\x01\x00\x10\x00" + b"(" * 16)
    elif what == "zip":
        with path.open("wb") as file:
            np.savez(file, a=np.ones(3))
    else:
        path.write_bytes({"empty": b"", "text": b"text"}[what])


@pytest.mark.parametrize("what", ["object", "pickle", "cut", "header", "empty", "text"])
def test_features_that_do_not_load(tmp_path: Path, what: str) -> None:
    write_broken(tmp_path / "f.npy", what)
    with raises_fault("regions.unreadable", "f.npy"):
        open_features(tmp_path / "f.npy")


def test_features_in_an_archive_of_several(tmp_path: Path) -> None:
    write_broken(tmp_path / "f.npy", "zip")
    with raises_fault("regions.unreadable", "f.npy"):
        open_features(tmp_path / "f.npy")


def test_missing_features(tmp_path: Path) -> None:
    with raises_fault("file.missing", "f.npy"):
        open_features(tmp_path / "f.npy")


@pytest.mark.parametrize("array", [np.ones((3, 2)), np.ones(3, np.float16), np.ones((0, 2), np.float16)])
def test_features_of_another_kind(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "f.npy", array)
    with raises_fault("regions.unreadable", "f.npy") as caught:
        open_features(tmp_path / "f.npy")
    assert str(array.dtype) in str(caught.value)


def test_rows_that_are_not_finite_in_several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairseq_vgs.media.region_features._BLOCK_VALUES", 4)
    features = np.ones((7, 2), np.float16)
    features[1, 0] = np.nan
    features[6, 1] = np.inf
    assert non_finite_rows(features) == [1, 6]
