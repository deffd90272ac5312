"""Paths of any characters, through all commands but training."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from support.abx_material import write_checkpoint
from support.tiny_folder import make_folder
from support.tiny_speech import encode, picture, speech, write
from support.train import ODD
from support.wav2vec2_files import SMALL, old_state, stock_model

from fairseq_vgs.cli.main import main
from fairseq_vgs.tasks.history import TrainingHistory


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    folder = tmp_path / ODD
    folder.mkdir()
    return folder


def run(*words: object) -> None:
    assert main([str(word) for word in words]) == 0, shlex.join(map(str, words))


def words_of(override: str) -> object:
    """Read a word as Hydra does."""
    return OverridesParser.create().parse_override(override).value()


def test_prepare_and_check(odd: Path) -> None:
    name = odd.name
    lines = ["audio\timage\tspeaker\ttext"]
    for number in range(4):
        write(odd / f"{name}/{number} {name}.wav", encode(speech(number)))
        write(odd / f"{name}/{number} {name}.png", picture(number))
        lines.append(f"{name}/{number} {name}.wav\t{name}/{number} {name}.png\t{name}\tword {number} {name}")
    table = write(odd / f"{name}.tsv", "\n".join(lines).encode())
    splits = ("--valid-share", "0.25", "--test-share", "0.25")
    for options in (("--relative-root", "--convert", "always"), ("--pack", "tar")):
        run("prepare", "pairs", f"{odd}/{table.name}", odd / "data", *splits, *options, "--force")
        run("check", odd / "data")
    run("prepare", "text", odd / "data", odd / f"text {name}", "--vocabulary-size", "60")
    write(odd / f"{name}/{name}/a.flite", b"pau:0.1 a:0.2 b:0.3 c:0.4")
    run("prepare", "items", odd / name, odd / f"{name}.item", "--speaker", "anna")
    assert "a 0.1 0.4 b a c anna" in (odd / f"{name}.item").read_text("utf-8")


def test_evaluate_extract_plot_and_gallery(odd: Path) -> None:
    name = odd.name
    data = make_folder(odd / f"data {name}", lengths={"test": [6000, 6300, 6600]}, n_images=3).path
    checkpoint, results = write_checkpoint(odd / f"best {name}.pt"), odd / f"results {name}"
    run("evaluate", "retrieval", checkpoint, data, "--output", results, "--baseline", "none")
    run("gallery", results, data, odd / f"gallery {name}", "--queries", "1", "--no-heat-maps")
    run("compare", results, results, "--titles", "a", "b")
    run("extract", checkpoint, data, "--output", odd / f"f {name}", "--layers", "2")
    assert (odd / f"f {name}/layer_2").is_dir()
    TrainingHistory(odd / "history.jsonl").append("train", 1, {"loss": 6.0})
    run("plot", "training", odd / "history.jsonl", odd / f"p {name}.svg")


def test_the_printed_command_of_an_import_can_be_pasted(
    odd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = odd / "w 2v.pt", odd / f"m {odd.name}.pt"
    torch.save(old_state(stock_model(SMALL), SMALL), source)
    run("import", "wav2vec2", source, output)
    *_, group, printed = capsys.readouterr().out.splitlines()
    program, *words = shlex.split(printed)
    assert program == "fairseq-hydra-train"
    path, name, *places = words[words.index("--config-name") + 2 :]
    assert words_of(path) == [f"file://{Path(group).parent.parent}"]
    assert words_of(name) == Path(group).stem
    # from any folder
    given = [words[words.index("--config-dir") + 1], *(words_of(place) for place in places)]
    assert [Path(str(place)).is_absolute() and Path(str(place)).is_dir() for place in given] == [True]


def test_configs_prints_a_folder_of_any_name(
    odd: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairseq_vgs.configs.PACKAGE", odd / "fairseq_vgs")
    folder = write(odd / "fairseq_vgs/configs/base.yaml", b"").parent
    run("configs")
    printed = capsys.readouterr()
    assert printed.out == f"{folder}\n"
    assert printed.err == ""
