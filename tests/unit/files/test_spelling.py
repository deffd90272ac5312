"""Paths are found in whichever spelling the disk has them; nothing is guessed."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from support.faults import raises_fault

from fairseq_vgs.files.location import check_present, resolve
from fairseq_vgs.files.spelling import PathNames, on_disk, spelling_key

COMPOSED = "Zoë Ñ/é ё.wav"
DECOMPOSED = unicodedata.normalize("NFD", COMPOSED)


@pytest.mark.parametrize(
    "listed", [COMPOSED, DECOMPOSED, COMPOSED.replace("/", "\\"), DECOMPOSED.replace("/", "\\")]
)
@pytest.mark.parametrize("there", [COMPOSED, DECOMPOSED, "Zoë Ñ/" + unicodedata.normalize("NFD", "é ё.wav")])
def test_the_spelling_of_the_disk_is_found(tmp_path: Path, there: str, listed: str) -> None:
    (tmp_path / there).parent.mkdir()
    (tmp_path / there).touch()
    assert on_disk(tmp_path, listed) == there
    assert spelling_key(listed) == spelling_key(there) == COMPOSED


def test_what_exists_stays_and_what_is_ambiguous_too(tmp_path: Path) -> None:
    (tmp_path / "Zoë Ñ").mkdir()
    (tmp_path / unicodedata.normalize("NFD", "Zoë Ñ")).mkdir()
    (tmp_path / "a\\b.wav").touch()
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b.wav").touch()
    assert on_disk(tmp_path, "a\\b.wav") == "a\\b.wav"
    assert on_disk(tmp_path, "Zoë Ñ") == "Zoë Ñ"
    half = "Zoe\u0308 Ñ"  # fits both
    assert on_disk(tmp_path, half) == half
    for missing in ("é.wav", "é/1.wav", "..\\a", "a\\c.wav", "é\\..\\a"):
        assert on_disk(tmp_path, missing) == missing


def test_a_missing_file_is_explained_by_the_other_spelling(tmp_path: Path) -> None:
    (tmp_path / "é.wav").touch()
    listed = unicodedata.normalize("NFD", "é.wav")
    with raises_fault("file.missing", listed) as caught:
        check_present(resolve(tmp_path, listed))
    assert "there is '\\xe9.wav'" in str(caught.value)
    with raises_fault("file.missing") as caught:
        check_present(resolve(tmp_path, "ё.wav"))
    assert "there is" not in str(caught.value)


def test_only_endings_of_recordings_and_labels_are_left_out():
    names = PathNames(["anna.wav", "rec/anna.v2.wav", "utt.clean.wav"])
    assert names.find("anna.v2") == ["rec/anna.v2.wav"]
    assert names.find("utt.clean") == ["utt.clean.wav"]
    assert names.find("anna.TextGrid") == ["anna.wav"]
    assert PathNames(["anna.wav"]).find("anna.v2") == []
