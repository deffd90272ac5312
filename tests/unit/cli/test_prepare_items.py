from __future__ import annotations

import json
from pathlib import Path

import pytest

from fairseq_vgs.cli.main import main


def test_items_and_what_was_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab/s1_x.lab").write_text("#\n1 125 AH0\n2 125 T\n3 125 AH1\n3 125 K\n4 125 sil\n")
    command = ["prepare", "items", str(tmp_path / "lab"), str(tmp_path / "a.item")]
    options = ["--speaker-before", "_", "--strip-stress", "--pauses", "SIL"]
    assert main([*command, *options]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        "1 triphone items",
        "  of 4 phones in 1 recordings",
        "1 x phone of no duration: 1 items left out",
        "  s1_x.lab:5",
    ]
    assert (tmp_path / "a.item").read_text().splitlines()[1:] == ["s1_x 0 3 T AH AH s1"]
    assert main([*command, "--speaker", "bob", "--unit", "phoneme", "--force", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["unit"], summary["items"], summary["phones"]) == ("phoneme", 3, 4)


def test_bad_alignments_write_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.lab").write_text("#\nx\n1 125 a\ny\n")
    command = ["prepare", "items", str(tmp_path / "a.lab"), str(tmp_path / "a.item"), "--speaker", "bob"]
    assert main(command) == 1
    error = capsys.readouterr().err
    assert "a.lab:2: line must be" in error
    assert "a.lab:4: line must be" in error
    assert not (tmp_path / "a.item").exists()


def test_a_speaker_is_needed(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["prepare", "items", str(tmp_path), str(tmp_path / "a.item")])
    assert caught.value.code == 2
