"""fairseq-vgs evaluate run: table, options, refusals. What is measured: tests/unit/evaluation."""

import numpy as np
import pytest
from support.abx_material import write_checkpoint, write_recordings
from support.tiny_folder import make_folder

from fairseq_vgs.cli.main import main
from fairseq_vgs.evaluation.evaluators.abx import PAIRS, Abx, pair_items
from fairseq_vgs.evaluation.evaluators.retrieval import Retrieval
from fairseq_vgs.evaluation.over_training import read_checkpoint
from fairseq_vgs.evaluation.results import Items, Reported, Scores, read_result

COUNTS = {"items": 9, "cells": 3, "phone_pairs": 2, "triples": 6, "no_frame": 2, "subsampled": 0}
COUNTS |= {"no_partner": 0, "clamped": 0, "overlapping": 0}
MFCC_COUNTS = {**COUNTS, "cells": 4, "triples": 8, "no_frame": 0}
RECALLS = [f"{way}_r{k}" for way in ("speech_to_image", "image_to_speech") for k in (1, 5, 10)]


def _retrieval(self, model, settings):
    hit = np.repeat([100.0, 0.0], [1, 7])
    sets = {
        way: Items({}, np.arange(8), "images", {name: hit for name in RECALLS if name.startswith(way)})
        for way in ("speech_to_image", "image_to_speech")
    }
    metrics = {name: Reported("%", 6.25, "hits") for name in RECALLS}
    metrics["speech_to_image_r10"] = Reported("%", 100.0, "hits")
    return Scores(sets, metrics, facts={"pool": {"captions": 16, "images": 8}})


def _abx(self, model, settings):
    counts, rate = (MFCC_COUNTS, 100.0) if model.name == "mfcc" else (COUNTS, 50.0)
    errors = {"layer_1": 30.0, "layer_2": 1.0 + len(settings.speaker)}
    errors = {"mfcc": 5.5} if model.name == "mfcc" else errors
    values = {name: np.full(2, error) for name, error in errors.items()}
    items = pair_items([("a", "b"), ("b", "a")], values, same_as=f"{counts['cells']}")
    facts = {"items": {"file": settings.items or "phones.item", "sha256": "0"}}
    metrics = {name: Reported("%", 50.0, n=counts["cells"]) for name in values}
    return Scores({PAIRS: items}, metrics, facts, {"counts": counts, "frame_rate": rate})


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run of two checkpoints, of which nothing is measured but the updates."""
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    for updates in (7, 14):
        write_checkpoint(tmp_path / "run" / "checkpoints" / f"checkpoint_1_{updates}.pt")
    make_folder(tmp_path / "data", lengths={"test": [7000, 7300]})
    write_recordings(tmp_path / "abx")
    monkeypatch.setattr(Retrieval, "measure", _retrieval)
    monkeypatch.setattr(Abx, "measure", _abx)
    return tmp_path / "run"


def evaluate(run, *options):
    places = ["--abx", str(run.parent / "abx"), "--items", "phones.item"]
    return main(["evaluate", "run", str(run), str(run.parent / "data"), *places, *options])


def rows(capsys):
    """The table's rows by their first word."""
    table = capsys.readouterr().out.split("\n\n")[1].splitlines()
    return {line.split()[0]: line.split()[1:] for line in table}


def test_table_has_checkpoints_baselines_and_chance(run, capsys):
    assert evaluate(run, "--seed", "4") == 0
    out, err = capsys.readouterr()
    heading, table, note = out.split("\n\n")
    best = ", of the best transformer layer's output (layer_1 on), chosen on these items"
    assert heading.splitlines() == [
        "retrieval on split test: 16 captions of 8 images",
        f"phone ABX error in %, phones.item: within speaker, within context, angular distance{best}",
    ]
    assert [line.split() for line in table.splitlines()] == [
        [
            "update",
            "s->i",
            "R@1",
            "R@5",
            "R@10",
            "i->s",
            "R@1",
            "R@5",
            "R@10",
            "ABX",
            "within",
            "speaker",
            "best",
            "layer",
        ],
        ["untrained", "(seed", "4)", *["12.5"] * 6, "7.00", "layer_2"],
        ["7", *["12.5"] * 6, "7.00", "layer_2"],
        ["14", *["12.5"] * 6, "7.00", "layer_2"],
        ["MFCC", *["-"] * 6, "5.50"],
        ["chance", "6.2", "6.2", "100.0", "6.2", "6.2", "6.2", "50.00"],
    ]
    assert note == (
        "note: speech -> image, R@10 %: k >= pool: always 100 %\n"
        "note: MFCC was not measured on the same items as untrained (seed 4) (0 and 2 of them without a "
        "frame, at 100 and 50 Hz): no paired difference\n"
    )
    assert err.endswith(f"results: {run / 'evaluation'}\n")
    files = {f"{one}/{file}" for one in ("retrieval", "abx") for file in ("metrics.json", "items.npz")}
    found = {str(path.relative_to(run / "evaluation")) for path in (run / "evaluation").rglob("*.*")}
    assert found == {f"{updates}/{file}" for updates in (0, 7, 14) for file in files}
    provenance = read_result(run / "evaluation" / "7" / "abx").content["provenance"]
    assert provenance["command"].startswith("fairseq-vgs evaluate run ")


def test_without_baseline_and_without_abx(run, capsys):
    assert main(["evaluate", "run", str(run), str(run.parent / "data"), "--baseline", "none"]) == 0
    table = rows(capsys)
    assert list(table) == ["update", "7", "14", "chance"]
    assert len(table["7"]) == 6
    assert not (run / "evaluation" / "0").exists()


def test_results_of_something_else_are_replaced_by_force_only(run, capsys):
    assert evaluate(run) == 0
    table = run.parent / "data" / "test.pairs.tsv"
    lines = table.read_text(encoding="utf-8").splitlines(keepends=True)
    table.write_text("".join(lines[:-1]), encoding="utf-8")
    capsys.readouterr()
    assert evaluate(run) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "metrics.json: already exists, and was made from something else" in captured.err
    assert "(retrieval data test.pairs.tsv: " in captured.err
    assert "3 of 3 checkpoints have such results; pass --force" in captured.err
    assert evaluate(run, "--force") == 0


def test_abx_stays_where_it_is_not_asked_for(run, capsys):
    assert evaluate(run) == 0
    without = ["evaluate", "run", str(run), str(run.parent / "data"), "--baseline", "none"]
    capsys.readouterr()
    assert main(without) == 0
    assert "ABX" not in capsys.readouterr().out
    assert set(read_checkpoint(run / "evaluation" / "7")) == {"retrieval", "abx"}


def test_other_files_in_the_folder_and_stale_figures_are_not_printed(run, capsys):
    assert evaluate(run) == 0
    (run / "evaluation" / "notes.json").write_text("[]")
    capsys.readouterr()
    assert evaluate(run, "--every", "14") == 0
    assert list(rows(capsys)) == ["update", "untrained", "14", "MFCC", "chance"]


def test_across_speakers(run, capsys):
    assert evaluate(run, "--every", "14", "--abx-speakers", "across", "within") == 0
    table = rows(capsys)
    assert table["14"][6:] == ["7.00", "layer_2", "7.00", "layer_2"]
    assert table["chance"][6:] == ["50.00", "50.00"]
    assert set(read_checkpoint(run / "evaluation" / "14")) == {"retrieval", "abx", "abx_across"}
    with pytest.raises(SystemExit):
        evaluate(run, "--abx-speakers", "between")


def test_no_checkpoint_after_such_updates(run, capsys):
    assert evaluate(run, "--every", "5") != 0
    assert "must hold checkpoints after a multiple of 5 updates" in capsys.readouterr().err


def test_item_file_is_named_as_in_evaluate_abx(run, capsys):
    command = ["evaluate", "run", str(run), str(run.parent / "data"), "--abx", str(run.parent / "abx")]
    assert main(command) == 0  # the only one
    assert "phones.item" in capsys.readouterr().out
    (run.parent / "abx" / "other.item").write_text((run.parent / "abx" / "phones.item").read_text())
    assert main(command) == 1
    assert "must hold one item file" in capsys.readouterr().err
    for option in ("--items", "--abx-items"):
        assert main([*command, option, "other.item", "--force"]) == 0
        assert "other.item" in capsys.readouterr().out


def test_other_evaluations_are_added_by_name(run, capsys):
    also = ["--also", f"abx {run.parent / 'abx'} --speaker across"]
    command = ["evaluate", "run", str(run), str(run.parent / "data"), "--every", "14"]
    assert main([*command, *also]) == 0
    assert "ABX across speaker" in capsys.readouterr().out
    assert set(read_checkpoint(run / "evaluation" / "14")) == {"retrieval", "abx_across"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("wer DATA", "--also: must begin with one of abx"),
        ("", "--also: must begin with one of abx"),
        ("retrieval DATA", "--also: must name each evaluation once"),
        ("retrieval 'DATA", "--also: must be words as in a shell (No closing quotation)"),
        ("lexical", "--also: the following arguments are required: DATA"),
        ("lexical DATA --what", "--also: unrecognized arguments: --what"),
        ("lexical DATA --help", "--also: unrecognized arguments: --help"),
        ("abx DATA --speaker between", "--also: argument --speaker: "),
        ("retrieval DATA --folds x", "--also: argument --folds: "),
    ],
)
def test_wrong_words_of_another_evaluation_are_wrong_usage(run, capsys, words, said):
    command = ["evaluate", "run", str(run), str(run.parent / "data")]
    with pytest.raises(SystemExit) as stop:
        main([*command, "--also", words])
    assert stop.value.code == 2
    assert said in capsys.readouterr().err
    assert not (run / "evaluation").exists()


def test_none_stands_alone_among_baselines(run, capsys):
    with pytest.raises(SystemExit) as stop:
        evaluate(run, "--baseline", "none", "--baseline", "mfcc")
    assert stop.value.code == 2
    assert "none must stand alone" in capsys.readouterr().err
