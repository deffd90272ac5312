"""Runs side by side: what may be compared, the differences, the tables and files."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from support.abx_material import random_material
from support.retrieval_folders import write_results

from fairseq_vgs.evaluation import abx_results, compare, compare_tables
from fairseq_vgs.evaluation.abx import abx_scores
from fairseq_vgs.evaluation.results import ResultsError


@pytest.fixture
def folders(tmp_path):
    """Two retrieval results on the same items; the second's embeddings are hardly noisy."""
    write_results(tmp_path / "a", noise=1.5)
    write_results(tmp_path / "b", noise=0.1)
    return tmp_path / "a", tmp_path / "b"


def _edit(folder, change):
    path = folder / "metrics.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def _write_abx(folder, *, noise, tokens=None, seed=1, layers=("layer_1", "layer_2")):
    items, arrays = random_material(seed=0, n_tokens=120)
    items = items if tokens is None else items[:tokens]
    generator = torch.Generator().manual_seed(0)
    features = {}
    for name, array in arrays.items():
        clean = torch.from_numpy(array)
        noisy = clean + noise * torch.randn(clean.shape, generator=generator)
        features[name] = dict.fromkeys(layers, noisy)
    result = abx_scores(features, items, seed=seed)
    model = abx_results.AbxModel(result, 50.0, "trained", 7, 0.5)
    content = {
        "split": "test",
        "items": {"file": "x.item", "sha256": "1" * 64},
        "condition": {"speaker": "within", "context": "within", "distance": "angular"},
        "models": {"trained": abx_results.model_json(model, abx_results.layer_metrics(model, seed=1))},
        "provenance": {"seed": seed, "manifest": {"test.tsv": "2" * 64}},
    }
    abx_results.write_abx(folder, metrics=content, models={"trained": model})
    return model


def test_differences_are_paired_and_from_the_first(folders):
    runs = compare.read_runs(folders, titles=["noisy", "clear"])
    comparison = compare.compare_runs(runs, seed=1)
    assert comparison.notes == ()
    assert list(comparison.differences) == ["clear"]
    for name, metric in comparison.differences["clear"].items():
        first, second = (run.models["trained"][name].value.value for run in runs)
        assert metric.value.value == pytest.approx(second - first)
        assert metric.value.low <= metric.value.value <= metric.value.high
    assert comparison.differences["clear"]["speech_to_image_r1"].value.value > 10
    assert comparison.differences["clear"]["image_to_speech_mrr"].unit == ""
    itself = compare.compare_runs(
        compare.read_runs([folders[0], folders[0]], titles=["one", "same"]), seed=1
    ).differences["same"]
    assert {(m.value.value, m.value.low, m.value.high) for m in itself.values()} == {(0.0, 0.0, 0.0)}


def test_other_data_are_refused_or_stand_without_differences(folders):
    _edit(folders[1], lambda content: content["provenance"]["manifest"].update({"test.tsv": "other"}))
    runs = compare.read_runs(folders)
    with pytest.raises(ResultsError, match=r"got others in .*b \(test.tsv\).*--allow-different-data"):
        compare.compare_runs(runs, seed=1)
    comparison = compare.compare_runs(runs, seed=1, allow_different_data=True)
    assert comparison.differences == {}
    assert "so no differences" in comparison.notes[0]
    assert compare_tables.difference_rows(comparison) == []
    assert str(folders[1]) in compare_tables.score_rows(comparison)[0]


def test_tables_that_are_missing_or_of_other_queries_give_no_differences(folders):
    table = folders[1] / "speech_to_image.csv"
    lines = table.read_text(encoding="utf-8").splitlines()
    table.write_text("\n".join(lines[:-1]) + "\n", encoding="utf-8")
    comparison = compare.compare_runs(compare.read_runs(folders), seed=1)
    assert (comparison.differences, len(comparison.notes)) == ({}, 1)
    assert "other items" in comparison.notes[0]
    table.unlink()
    assert "is missing" in compare.compare_runs(compare.read_runs(folders), seed=1).notes[0]
    table.write_text("audio_id,rank\nx,1\n", encoding="utf-8")
    with pytest.raises(ResultsError, match="must be the table"):
        compare.compare_runs(compare.read_runs(folders), seed=1)


def test_folders_that_are_no_results_are_refused(folders, tmp_path):
    with pytest.raises(ResultsError, match="result file must exist"):
        compare.read_runs([tmp_path])
    with pytest.raises(ResultsError, match="must be 2 different ones"):
        compare.read_runs(folders, titles=["same", "same"])
    with pytest.raises(ResultsError, match="must be 2 different ones"):
        compare.read_runs([folders[0], folders[0]])
    _write_abx(tmp_path / "abx", noise=0.0)
    with pytest.raises(ResultsError, match="kind must be 'retrieval' as in"):
        compare.read_runs([folders[0], tmp_path / "abx"])
    _edit(folders[0], lambda content: content["models"].pop("trained"))
    with pytest.raises(ResultsError, match="run it again"):
        compare.read_runs(folders)
    _edit(folders[1], lambda content: content.update(kind="comparison"))
    with pytest.raises(ResultsError, match="kind must be one of"):
        compare.read_runs([folders[1]])


def test_abx_layers_are_compared_on_the_same_cells(tmp_path):
    first = _write_abx(tmp_path / "a", noise=0.0)
    second = _write_abx(tmp_path / "b", noise=5.0, layers=("layer_1", "layer_3"))
    runs = compare.read_runs([tmp_path / "a", tmp_path / "b"], titles=["a", "b"])
    comparison = compare.compare_runs(runs, seed=1)
    assert list(comparison.differences["b"]) == ["layer_1"]  # the layer that both have
    metric = comparison.differences["b"]["layer_1"]
    expected = 100 * (second.layers["layer_1"].error - first.layers["layer_1"].error)
    assert metric.value.value == pytest.approx(expected)
    assert metric.value.low <= metric.value.value
    assert (
        metric
        == abx_results.layer_differences(
            abx_results.AbxModel({"layer_1": second.layers["layer_1"]}, 50.0, "", 0, 0),
            abx_results.AbxModel({"layer_1": first.layers["layer_1"]}, 50.0, "", 0, 0),
            seed=1,
        )["layer_1"]
    )
    rows = compare_tables.score_rows(comparison)
    assert [row[0] for row in rows] == ["", "layer_1 %", "layer_2 %", "layer_3 %"]
    assert rows[0] == ["", "a", "b", "chance"]
    assert rows[3][1] == "-"
    assert [row[-1] for row in rows[1:]] == ["50.0", "50.0", "50.0"]


def test_abx_of_other_cells_or_draws(tmp_path):
    _write_abx(tmp_path / "a", noise=0.0)
    _write_abx(tmp_path / "fewer", noise=0.0, tokens=80)
    comparison = compare.compare_runs(compare.read_runs([tmp_path / "a", tmp_path / "fewer"]), seed=1)
    assert (comparison.differences, len(comparison.notes)) == ({}, 1)

    def drawn(content):
        content["models"]["trained"]["counts"]["subsampled"] = 3

    _write_abx(tmp_path / "b", noise=0.0, seed=2)
    for name in ("a", "b"):
        _edit(tmp_path / name, drawn)
    with pytest.raises(ResultsError, match=r"b \(seed\)"):
        compare.compare_runs(compare.read_runs([tmp_path / "a", tmp_path / "b"], titles=["a", "b"]), seed=1)


def test_cells_are_read_as_written(tmp_path):
    model = _write_abx(tmp_path, noise=1.0)
    cells, errors = abx_results.read_cells(tmp_path / "cells_trained.csv")
    written = model.any_layer.cells
    assert (cells.pairs, cells.speakers) == (written.pairs, written.speakers)
    for name in ("pair", "speaker", "x_speaker", "n_triples"):
        np.testing.assert_array_equal(getattr(cells, name), getattr(written, name))
    contexts = [[found.contexts[number] for number in found.context] for found in (cells, written)]
    assert contexts[0] == contexts[1]
    np.testing.assert_array_equal(errors["layer_1"], model.layers["layer_1"].cell_errors)
    (tmp_path / "cells_trained.csv").write_text("phone_a\nx\n", encoding="utf-8")
    with pytest.raises(ResultsError, match="must be a table"):
        abx_results.read_cells(tmp_path / "cells_trained.csv")


def test_baselines_that_agree_share_a_column(folders):
    runs = compare.read_runs(folders, titles=["a", "b"])
    header = compare_tables.score_rows(compare.compare_runs(runs, seed=1))[0]
    assert header == ["", "a", "b", "untrained (a)", "untrained (b)", "chance"]
    content = json.loads((folders[0] / "metrics.json").read_text(encoding="utf-8"))
    _edit(folders[1], lambda other: other["models"].update(untrained=content["models"]["untrained"]))
    runs = compare.read_runs(folders, titles=["a", "b"])
    header = compare_tables.score_rows(compare.compare_runs(runs, seed=1))[0]
    assert header == ["", "a", "b", "untrained", "chance"]


def test_files(folders, tmp_path):
    runs = compare.read_runs(folders, titles=["a_1", "b|2"])
    comparison = compare.compare_runs(runs, seed=1)
    content = compare_tables.as_json(comparison, command="fairseq-vgs compare a b", seed=1)
    compare_tables.write_comparison(tmp_path / "out", comparison, content=content)
    with (tmp_path / "out" / "comparison.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 10
    for row in rows:
        run = next(run for run in runs if run.title == row["run"])
        assert float(row["value"]) == run.models[row["model"]][row["measure"]].value.value
        has_difference = row["run"] == "b|2" and row["model"] == "trained" and "median" not in row["measure"]
        assert bool(row["difference"]) == has_difference
    text = (tmp_path / "out" / "comparison.md").read_text(encoding="utf-8")
    assert r"b\|2" in text
    widths = {line.replace(r"\|", "").count("|") for line in text.splitlines() if line.startswith("|")}
    assert widths == {7, 3}  # scores: measure, two runs, two baselines, chance; differences: measure, run
    latex = (tmp_path / "out" / "comparison.tex").read_text(encoding="utf-8")
    assert r"a\_1" in latex
    assert r"speech $\rightarrow$ image, R@1 \%" in latex
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 2
    written = json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))
    assert written == {"schema_version": 1, **json.loads(json.dumps(content))}
    assert written["provenance"]["versions"]["numpy"] == np.__version__
    assert written["runs"]["a_1"]["data"]["split"] == "test"
    with pytest.raises(FileExistsError, match="--force"):
        compare_tables.write_comparison(tmp_path / "out", comparison, content=content)
    compare_tables.write_comparison(tmp_path / "out", comparison, content=content, force=True)
