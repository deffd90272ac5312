"""fairseq-vgs evaluate lexical: table, files, refusals, on words of the embedded set at several speeds."""

import csv
import json

import pytest
import torch
from support import wav2vec2_files
from support.abx_material import write_checkpoint
from support.tiny_speech import encode, speech, write

from fairseq_vgs.cli.main import main
from fairseq_vgs.evaluation.evaluators import lexical as lexical_words
from fairseq_vgs.features import layers as phone_features
from fairseq_vgs.metrics.lexical import frame_recall

SIZES = ["--objects", "6", "--train-scenes", "1", "--valid-scenes", "0", "--test-scenes", "4"]


def test_table_files_and_refusals(tmp_path, capsys):
    checkpoint = write_checkpoint(tmp_path / "checkpoint_best.pt")
    words, output = tmp_path / "words", tmp_path / "out"
    scenes = ["prepare", "scenes", str(words), *SIZES, "--pictures-per-scene", "1", "1", "--captions", "3"]
    assert main(scenes) == 0
    command = ["evaluate", "lexical", str(checkpoint), str(words), "--output", str(output)]
    capsys.readouterr()
    assert main(command) == 0
    table = capsys.readouterr().out
    assert "12 recordings of 4 words" in table
    for row in ("layer_0", "layer_3", "mfcc", "chance"):
        assert f"\n{row} " in table
    metrics = json.loads((output / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["counts"] == {"tokens": 12, "words": 4, "single_tokens": 0}
    figures = {name: model["metrics"] for name, model in metrics["models"].items()}
    # 2 of the 8 recordings of other folds
    assert all(
        figure["chance"] == pytest.approx(25) for layers in figures.values() for figure in layers.values()
    )
    assert figures["mfcc"]["mfcc"]["value"] > 25
    assert figures["trained"]["layer_2"] != figures["untrained"]["layer_2"]
    with (output / "words.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    mean = sum(float(row["mfcc/mfcc"]) for row in rows) / 4
    assert 100 * mean == pytest.approx(figures["mfcc"]["mfcc"]["value"])

    assert main(command) == 1
    assert "already holds metrics.json, items.npz, words.csv; pass --force" in capsys.readouterr().err
    table = words / "test.pairs.tsv"
    lines = table.read_text(encoding="utf-8").splitlines()
    table.write_text("\n".join([*lines[:-1], lines[-1] + ", two"]) + "\n", encoding="utf-8")
    assert main([*command, "--force"]) == 1
    assert "test.tsv:13: recording must be one word by test.pairs.tsv" in capsys.readouterr().err


def test_a_published_test_as_it_is_cloned(tmp_path, capsys):
    checkpoint = write_checkpoint(tmp_path / "checkpoint_best.pt")
    for number, name in enumerate(["all_gone_Aq", "all_gone_As", "ball_Aq", "ball_As"]):
        path = tmp_path / "CDI_lextest/CDI_synth" / f"{name}.wav"
        write(path, encode(speech(number // 2, rate=24_000), rate=24_000))
    data = tmp_path / "words"
    assert main(["prepare", "lextest", str(tmp_path / "CDI_lextest"), str(data)]) == 0
    capsys.readouterr()
    assert main(["evaluate", "lexical", str(checkpoint), str(data), "--json"]) == 0
    printed = capsys.readouterr().out
    found = json.loads(printed)
    assert printed == (tmp_path / "checkpoint_best_lexical_test/metrics.json").read_text(encoding="utf-8")
    assert found["counts"] == {"tokens": 4, "words": 2, "single_tokens": 0}
    # both recordings of a word are the same sound here, at a chance of 1 in 2
    assert {
        model["metrics"][name]["value"] for model in found["models"].values() for name in model["metrics"]
    } == {100}
    assert found["models"]["mfcc"]["metrics"]["mfcc"]["chance"] == pytest.approx(50)


def test_stock_wav2vec2_and_chosen_baselines(tmp_path, capsys):
    checkpoint, words, output = tmp_path / "stock.pt", tmp_path / "words", tmp_path / "out"
    torch.save(wav2vec2_files.new_state(wav2vec2_files.stock_model({}), {}), checkpoint)
    scenes = ["prepare", "scenes", str(words), *SIZES, "--pictures-per-scene", "1", "1", "--captions", "2"]
    assert main(scenes) == 0
    capsys.readouterr()
    command = ["evaluate", "lexical", str(checkpoint), str(words), "--output", str(output), "--layers", "1"]
    for baseline, expected in (("untrained", ["trained", "untrained"]), ("none", ["trained"])):
        assert main([*command, "--baseline", baseline, "--force"]) == 0
        header, layer, chance = capsys.readouterr().out.splitlines()[2:]
        assert [name for name in ("trained", "untrained") if f" {name} (" in header] == expected
        assert layer.startswith("layer_1") and chance.split() == ["chance", "25.0"]
        metrics = json.loads((output / "metrics.json").read_text(encoding="utf-8"))
        assert list(metrics["models"]) == expected
    with (output / "words.csv").open(encoding="utf-8", newline="") as file:
        assert next(iter(csv.DictReader(file))).keys() == {"word", "trained/layer_1"}


def test_frames_of_one_layer(tmp_path, capsys):
    """The command's figure is that of the function on the same features, which has oracles of its own."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint_best.pt")
    words = tmp_path / "words"
    scenes = ["prepare", "scenes", str(words), *SIZES, "--pictures-per-scene", "1", "1", "--captions", "3"]
    assert main(scenes) == 0
    capsys.readouterr()
    command = ["evaluate", "lexical", str(checkpoint), str(words)]
    assert main([*command, "--frames", "--layers", "2"]) == 0
    table = capsys.readouterr().out
    assert "recall of words in %, by warped frames" in table
    assert "\nlayer_2 " in table and "layer_1" not in table
    output = tmp_path / "checkpoint_best_lexical_frames_test"
    found = json.loads((output / "metrics.json").read_text(encoding="utf-8"))
    recordings, tokens = lexical_words.open_words(words, "test")
    mfcc = phone_features.mfcc_features(recordings)
    expected = frame_recall([mfcc(name)["mfcc"] for name in recordings], tokens).overall
    assert found["models"]["mfcc"]["metrics"]["mfcc"]["value"] == pytest.approx(100 * expected)

    assert main([*command, "--layers", "2"]) == 0
    means = tmp_path / "checkpoint_best_lexical_test"
    assert main(["compare", str(means), str(output)]) == 1
    assert "(compared)" in capsys.readouterr().err
