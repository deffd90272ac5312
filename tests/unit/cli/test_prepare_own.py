from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support.faults import check_folder
from support.tiny_speech import encode, picture, speech, write

from fairseq_vgs.cli.main import main


def make_table(folder: Path) -> Path:
    rows = ["clip;pic;split"]
    for number, split in enumerate(("train", "train", "valid", "test")):
        write(folder / f"{number}.wav", encode(speech(number, rate=8_000), rate=8_000))
        write(folder / f"{number}.png", picture(number))
        rows.append(f"{number}.wav;{number}.png;{split}")
    return write(folder / "t.csv", "\n".join(rows).encode())


def test_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = make_table(tmp_path / "in")
    options = ["--audio-column", "clip", "--image-column", "pic", "--pack", "tar", "--jobs", "2"]
    assert main(["prepare", "pairs", str(table), str(tmp_path / "out"), *options]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    n_bytes = sum(path.stat().st_size for path in (tmp_path / "in").iterdir() if path != table)
    said = captured.err.splitlines()[-2]
    assert re.fullmatch(r"read 8 files of [0-9.]+ MB in [0-9.]+ s: [0-9,]+ files/s, [0-9.]+ MB/s", said)
    assert said.split()[4] == f"{n_bytes / 1e6:.1f}"
    assert lines[0].split() == ["split", "recordings", "pairs", "images", "speakers", "with_text", "hours"]
    assert [line.split()[:4] for line in lines[1:-1]] == [
        ["train", "2", "2", "2"],
        ["valid", "1", "1", "1"],
        ["test", "1", "1", "1"],
    ]
    assert lines[-1].startswith("converted: 4 recordings to 16 kHz mono FLAC (s")
    assert check_folder(tmp_path / "out") == []
    assert main(["check", str(tmp_path / "out")]) == 0


def test_faults_exit_with_1_one_line_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = make_table(tmp_path / "in")
    (tmp_path / "in/0.wav").unlink()
    (tmp_path / "in/2.png").write_bytes(b"")
    arguments = ["prepare", "pairs", str(table), str(tmp_path / "out")]
    arguments += ["--audio-column", "clip", "--image-column", "pic"]
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.splitlines()[0].startswith("t.csv:2: 0.wav: must be a usable recording, got no such file; ")
    assert not (tmp_path / "out").exists()
    assert main([*arguments, "--skip-bad", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["excluded"]["missing file"] == {"count": 1, "items": ["0.wav"]}
    assert summary["excluded"]["empty file"] == {"count": 1, "items": ["2.png"]}


def test_librispeech(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chapter = tmp_path / "LibriSpeech/dev-clean/1/2"
    write(chapter / "1-2-0000.flac", encode(speech(1), kind="FLAC"))
    write(chapter / "1-2.trans.txt", b"1-2-0000 HELLO\n")
    arguments = [
        "prepare",
        "librispeech",
        str(tmp_path),
        str(tmp_path / "out"),
        "--subset",
        "dev-clean=train",
    ]
    assert main(arguments) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:2] == ["train", "1"]
    assert check_folder(tmp_path / "out") == []
