from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.faults import check_folder
from support.tiny_speech import encode, speech, write
from support.tiny_stamps import make_stamps

from fairseq_vgs import configs
from fairseq_vgs.cli.main import build_parser, main

SMALL = ["--objects", "5", "--train-scenes", "4", "--valid-scenes", "2", "--test-scenes", "3"]


def test_scenes_come_from_the_embedded_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", "scenes", str(tmp_path / "data"), *SMALL]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[0].split() == ["split", "scenes", "captions", "minutes"]
    assert [line.split()[:3] for line in lines[1:4]] == [
        ["train", "4", "8"],
        ["valid", "2", "4"],
        ["test", "3", "6"],
    ]
    assert lines[4].split()[1:4] == ["regions", "of", "9"]
    assert all(line.startswith("left out: ") for line in lines[5:])
    assert f"written to {tmp_path / 'data'}" in captured.err
    assert "preparing" not in captured.err
    assert check_folder(tmp_path / "data") == []


def test_scene_options_reach_the_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--captions", "3", "--pictures-per-scene", "1", "2", "--seed", "9", "--canvas-size", "128"]
    options += ["--max-object-seconds", "1", "--relative-root", "--jobs", "1", "--json"]
    assert main(["prepare", "scenes", str(tmp_path / "data"), *SMALL, *options]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["settings"] == {
        "objects": 5,
        "max_object_seconds": 1.0,
        "train_scenes": 4,
        "valid_scenes": 2,
        "test_scenes": 3,
        "captions": 3,
        "pictures_per_scene": [1, 2],
        "canvas_size": 128,
        "seed": 9,
    }
    assert (tmp_path / "data/train.tsv").read_text("utf-8").startswith(".\n")


def test_tuxpaint_options_reach_the_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_stamps(tmp_path / "in")
    options = ["--language", "ru", "--max-seconds", "0", "--include-symbols", "--valid-share", "0.2"]
    options += ["--test-share", "0.3", "--seed", "2", "--picture-size", "20", "--workers", "2", "--json"]
    assert main(["prepare", "tuxpaint", str(tmp_path / "in"), str(tmp_path / "data"), *options]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["settings"] == {
        "language": "ru",
        "max_seconds": 0.0,
        "include_symbols": True,
        "valid_share": 0.2,
        "test_share": 0.3,
        "seed": 2,
        "picture_size": 20,
    }
    assert {split: counts["pairs"] for split, counts in summary["splits"].items()} == {
        "train": 6,
        "valid": 2,
        "test": 4,
    }
    assert check_folder(tmp_path / "data") == []


def test_scenes_from_prepared_stamps(tmp_path: Path) -> None:
    make_stamps(tmp_path / "in")
    source, output = tmp_path / "source", tmp_path / "data"
    assert main(["prepare", "tuxpaint", str(tmp_path / "in"), str(source), "--language", "ru"]) == 0
    assert main(["prepare", "scenes", str(output), "--source", str(source), *SMALL]) == 0
    assert check_folder(output) == []


def test_existing_output_is_one_readable_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["prepare", "scenes", str(tmp_path / "data"), *SMALL]
    assert main(arguments) == 0
    capsys.readouterr()
    assert main(arguments) == 1
    assert capsys.readouterr().err.startswith(f"{tmp_path / 'data'}: already exists; pass --force ")
    assert main([*arguments, "--force"]) == 0


def test_impossible_scenes_are_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["prepare", "scenes", str(tmp_path / "data"), "--objects", "8"])
    assert stop.value.code == 2
    _, error = capsys.readouterr().err.splitlines()
    assert "must be at most 154 in all splits together" in error
    assert list(tmp_path.iterdir()) == []


def test_without_embedded_data_the_source_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(configs, "PACKAGE", tmp_path / "lib/fairseq_vgs")
    assert main(["prepare", "scenes", "data"]) == 1
    assert "with --source" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nothing"],
        ["scenes"],
        ["tuxpaint", "in", "out"],
        ["scenes", "out", "--jobs", "0"],
        ["scenes", "out", "--objects", "many"],
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["prepare", *arguments])
    assert caught.value.code == 2


@pytest.mark.parametrize("corpus", [[], ["tuxpaint"], ["scenes"]])
def test_help_names_all_options(corpus: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["prepare", *corpus, "--help"])
    assert caught.value.code == 0
    assert ("--seed" in capsys.readouterr().out) == bool(corpus)


def commands(parser: Any) -> Iterator[Any]:
    """Yield the parsers of all commands that have no further ones."""
    parser.complete()
    nested = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not nested:
        yield parser
    for action in nested:
        for command in action.choices.values():
            yield from commands(command)


PREPARE = next(
    action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction)
).choices["prepare"]


@pytest.mark.parametrize("command", list(commands(PREPARE)), ids=lambda command: command.prog)
def test_every_command_has_examples_of_itself_that_can_be_given(command: argparse.ArgumentParser) -> None:
    text = command.format_help().partition("\nexamples:\n")[2]
    # What follows several blanks explains the example.
    examples = [line.strip().split("   ")[0] for line in text.splitlines() if line.strip()]
    own = [example for example in examples if example.startswith(f"{command.prog} ")]
    assert own
    for example in own:
        args = build_parser().parse_args(shlex.split(example)[1:])
        assert args.prepare is command.get_default("prepare")
        assert getattr(args, "preparation", None) is command.get_default("preparation")


def test_corpora_need_neither_torch_nor_fairseq() -> None:
    code = """
import sys, types
package = types.ModuleType("fairseq_vgs")  # without the plugin's own __init__, which imports fairseq
package.__path__ = [sys.argv[1]]
sys.modules["fairseq_vgs"] = package
from fairseq_vgs.prepare.corpora import CORPORA
assert len(CORPORA) >= 8
sys.exit(f"imported {found}" if (found := {"torch", "fairseq"} & set(sys.modules)) else 0)
"""
    folder = Path(configs.__file__).parents[1]
    result = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr


MINE = '''
from dataclasses import dataclass
from fairseq_vgs.options import option
from fairseq_vgs.prepare.corpora import CORPORA, CorpusReader
from fairseq_vgs.prepare.corpus import Caption, Corpus

@CORPORA.register("mine")
@dataclass(frozen=True)
class Mine(CorpusReader):
    """Recordings of mine, named SPEAKER_WORD.wav."""

    source = ("RECORDINGS", "folder of the recordings")
    split: str = option("train", help="split of all recordings")

    def collect(self, source, faults):
        names = sorted(path.name for path in source.glob("*.wav"))
        captions = [Caption(name, self.split, speaker=name.split("_")[0], place=name) for name in names]
        return Corpus("mine", audio_root=source, image_root=source, captions=captions)
'''


def test_a_corpus_from_outside_is_a_subcommand(tmp_path: Path) -> None:
    (tmp_path / "my_corpus.py").write_text(MINE)
    write(tmp_path / "in/anna_dog.wav", encode(speech(1)))
    command = [
        sys.executable,
        "-m",
        "fairseq_vgs.cli.main",
        "prepare",
        "mine",
        "in",
        "out",
        "--split",
        "test",
    ]
    environment = {
        **os.environ,
        "FAIRSEQ_VGS_EXTENSIONS": "my_corpus",
        "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]),
    }
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=120)
    assert check_folder(tmp_path / "out") == []
    summary = json.loads((tmp_path / "out/summary.json").read_text("utf-8"))
    assert summary["command"] == "fairseq-vgs prepare mine RECORDINGS OUTPUT --split test"
    assert summary["splits"]["test"]["speakers"] == 1
