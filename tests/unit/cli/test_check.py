from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from fairseq_vgs.cli.main import main
from fairseq_vgs.manifest import AudioRow, ImageRow, PairRow, write_audio_list, write_images, write_pairs

NO_REGIONS = (
    "there are no regions (regions.tsv, regions.npy); add them with fairseq-vgs prepare regions, "
    "or train on the pictures themselves"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.mkdir()
    for number, split in enumerate(("train", "valid", "test")):
        rng = np.random.default_rng(number)
        soundfile.write(path / f"{split}.wav", rng.uniform(-0.5, 0.5, 800), 16_000)
        Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).save(path / f"{split}.png")
        write_audio_list(path / f"{split}.tsv", [AudioRow(f"{split}.wav", 800)], root=".")
        write_pairs(path / f"{split}.pairs.tsv", [PairRow(f"{split}.wav", split)])
    splits = ("train", "valid", "test")
    write_images(path / "images.tsv", [ImageRow(split, f"{split}.png", 8, 6) for split in splits])
    return path


def test_a_sound_folder_prints_nothing_on_stdout(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(folder)]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    note, read, result = captured.err.splitlines()
    assert re.fullmatch(r"read 6 files of 0\.0 MB in [0-9.]+ s: [0-9,]+ files/s, [0-9.]+ MB/s", read)
    assert [note, result] == [
        f"note: {NO_REGIONS}",
        f"{folder}: no faults in 3 utterances, 3 pairs, 3 images, 0 regions",
    ]


def test_faults_are_lines_on_stdout(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "train.wav").unlink()
    (folder / "valid.png").write_bytes(b"")
    assert main(["check", str(folder)]) == 1
    captured = capsys.readouterr()
    assert [line.partition(": ")[0] for line in captured.out.splitlines()] == ["images.tsv:4", "train.tsv:2"]
    # No terminal, no bar: only the note, how fast it was, and the closing line.
    assert captured.err.splitlines()[2:] == [
        f"{folder}: 2 faults in 3 utterances, 3 pairs, 3 images, 0 regions"
    ]


def test_without_media_their_content_does_not_matter(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "valid.png").write_bytes(b"")
    assert main(["check", "--no-media", str(folder)]) == 0
    assert (
        "no faults in 3 utterances, 3 pairs, 3 images, 0 regions (media not read)" in capsys.readouterr().err
    )
    assert main(["check", str(folder)]) == 1


def test_json_is_one_object_on_stdout(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "valid.wav").unlink()
    write_images(
        folder / "images.tsv",
        [ImageRow(name, f"{name}.png", 8, 6) for name in ("train", "valid", "test")]
        + [ImageRow("сова", "train.png", 8, 6)],
        force=True,
    )
    assert main(["check", "--json", str(folder)]) == 1
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert result["schema_version"] == 1
    assert result["folder"] == str(folder)
    assert result["media_read"] is True
    assert result["n_faults"] == 1
    assert result["faults"][0]["place"] == "valid.tsv:2"
    assert "file is missing" in result["faults"][0]["message"]
    assert result["notes"] == [NO_REGIONS, "images.tsv: 1 of 4 images are in no pair"]
    assert result["counts"]["all"] == {"utterances": 3, "pairs": 3, "images": 4, "regions": 0}
    assert "note: images.tsv: 1 of 4 images are in no pair" in captured.err


def test_a_missing_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tmp_path / "none")]) == 1
    captured = capsys.readouterr()
    assert (
        captured.out
        == f"{tmp_path / 'none'}: must be a folder, got none; build it with fairseq-vgs prepare\n"
    )
    assert captured.err == f"{tmp_path / 'none'}: 1 fault\n"


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["check"])
    assert stop.value.code == 2
    with pytest.raises(SystemExit) as stop:
        main(["check", "--help"])
    assert stop.value.code == 0
    assert "fairseq-vgs check DATA --no-media" in capsys.readouterr().out


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_progress_bar_on_stderr(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert main(["check", str(folder)]) == 0
    assert "reading media" in terminal.getvalue()
    assert capsys.readouterr().out == ""
