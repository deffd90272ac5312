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


def textgrid(**tiers: str) -> str:
    """A long TextGrid; a tier is ``onset label onset label ... end``, ``-`` for an empty label."""
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", "xmax = 2"]
    lines += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, text) in enumerate(tiers.items(), start=1):
        *pairs, end = text.split()
        onsets, labels = pairs[::2], pairs[1::2]
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f'        name = "{name}"']
        lines += ["        xmin = 0", "        xmax = 2", f"        intervals: size = {len(labels)}"]
        for place, label in enumerate(labels):
            lines += [f"        intervals [{place + 1}]:", f"            xmin = {onsets[place]}"]
            lines += [f"            xmax = {[*onsets, end][place + 1]}"]
            lines += [f'            text = "{"" if label == "-" else label}"']
    return "\n".join(lines) + "\n"


def test_a_folder_of_the_montreal_forced_aligner(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    aligned = {
        "anna/one": "-0 - 0.1 K 0.2 AE1 0.3 T 0.4 sil 0.5 spn 0.9 AY1 1.1 - 2",
        "bob/two": "0.0 HH 0.55 AH0 0.61 L 0.7 OW1 0.83 sp 2",
    }
    for name, phones in aligned.items():
        path = tmp_path / "aligned" / f"{name}.TextGrid"
        path.parent.mkdir(parents=True)
        path.write_text(textgrid(words="0 - 0.1 cat 2", phones=phones), encoding="utf-8")
    item_file = tmp_path / "mine.item"
    command = ["prepare", "items", str(tmp_path / "aligned"), str(item_file), "--speaker-folder"]
    assert main(command) == 0
    assert capsys.readouterr().out.splitlines() == ["3 triphone items", "  of 8 phones in 2 recordings"]
    assert item_file.read_text().splitlines()[1:] == [
        "one 0.1 0.4 AE1 K T anna",
        "two 0 0.7 AH0 HH L bob",
        "two 0.55 0.83 L AH0 OW1 bob",
    ]
    assert main([*command, "--unit", "phoneme", "--strip-stress", "--force"]) == 0
    lines = item_file.read_text().splitlines()[1:]
    assert lines[:4] == [
        "one 0.1 0.2 K SIL AE anna",
        "one 0.2 0.3 AE K T anna",
        "one 0.3 0.4 T AE SIL anna",
        "one 0.9 1.1 AY SIL SIL anna",
    ]
    assert lines[-1] == "two 0.7 0.83 OW L SIL bob"
    assert len(lines) == 8


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
