"""Runs side by side: what may be compared, the differences, the tables and files."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from support.abx_material import random_material
from support.faults import raises_fault
from support.retrieval_folders import write_results

from fairseq_vgs.evaluation import compare
from fairseq_vgs.evaluation.evaluator import EVALUATORS
from fairseq_vgs.evaluation.evaluators.abx import phone_scores
from fairseq_vgs.evaluation.evaluators.lexical import word_scores
from fairseq_vgs.evaluation.evaluators.retrieval import deal_images, fold_ranks, fold_scores
from fairseq_vgs.evaluation.over_training import notes_of, score_rows
from fairseq_vgs.evaluation.results import ResultsError, read_result, write_result
from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.metrics.abx import abx_scores
from fairseq_vgs.metrics.lexical import vector_recall
from fairseq_vgs.report import comparison as compare_tables


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
    scores = phone_scores(abx_scores(features, items, seed=seed), frame_rate=50.0)
    content = {
        "kind": "abx",
        "items": {"file": "x.item", "sha256": "1" * 64},
        "condition": {"speaker": "within", "context": "within", "distance": "angular"},
    }
    _write(folder, content, scores, seed=seed)
    return scores


def _write(folder, content, scores, *, seed=1):
    metrics = {name: metric.as_json() for name, metric in scores.estimates(seed=1).items()}
    common = {
        "split": "test",
        "models": {"trained": {"title": "trained", "metrics": metrics, **scores.details}},
        "provenance": {"seed": seed, "manifest": {"test.tsv": "2" * 64}},
    }
    write_result(folder, {**content, **common}, {"trained": scores.items})


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


def test_every_figure_has_a_difference(folders):
    first, second = compare.read_runs(folders)
    differences = compare.compare_runs([first, second], seed=1).differences[second.title]
    assert set(differences) == set(first.models["trained"])
    median = differences["speech_to_image_median_rank"]
    assert median.unit == "rank"
    assert median.value.value < 0  # the second's ranks are better
    assert median.value.low <= median.value.value <= median.value.high


def _write_folds(folder, *, noise, n_pools=2, seed=3):
    def folds(found):
        dealt = deal_images(found.pool, n_pools, seed=seed)
        ranks = fold_ranks(found.speech, found.images, dealt)
        return *fold_scores(ranks, dealt), {"folds": dealt.as_json()}

    write_results(folder, noise=noise, folds=folds)


def test_recalls_within_pools_are_compared_where_the_pools_are_the_same(tmp_path):
    _write_folds(tmp_path / "a", noise=1.5)
    _write_folds(tmp_path / "b", noise=0.1)
    _write_folds(tmp_path / "other", noise=0.1, seed=4)
    runs = compare.read_runs([tmp_path / "a", tmp_path / "b", tmp_path / "other"], titles=["a", "b", "c"])
    comparison = compare.compare_runs(runs, seed=1)
    (name,) = (name for name in comparison.differences["b"] if name.startswith("speech_to_image_r1,"))
    assert name == "speech_to_image_r1, within 2 disjoint pools of 4 images and 6-8 captions (seed 3)"
    metric = comparison.differences["b"][name]
    first, second = (run.models["trained"][name].value.value for run in runs[:2])
    assert metric.value.value == pytest.approx(second - first)
    assert second > first
    assert not any("within" in name for name in comparison.differences["c"])
    rows = {row[0]: row for row in compare_tables.score_rows(comparison)}
    title = "speech -> image, R@1 %, within 2 disjoint pools of 4 images and 6-8 captions (seed 3)"
    assert rows[title][3] == "-"
    assert rows[title][2] != "-"
    assert rows[title.replace("seed 3", "seed 4")][1:3] == ["-", "-"]


def _write_lexical(folder, *, noise, words=6):
    generator = torch.Generator().manual_seed(0)
    tokens = [word for word in "abcdefgh"[:words] for _ in range(4)]
    centres = torch.randn(words, 5, generator=generator).repeat_interleave(4, dim=0)
    vectors = centres + noise * torch.randn(len(tokens), 5, generator=generator)
    layers = {"layer_0": vector_recall(vectors, tokens), "layer_1": vector_recall(centres, tokens)}
    scores = word_scores(layers)
    _write(folder, {"kind": "lexical", **scores.facts}, scores)


def test_words_are_compared_on_the_same_resampled_words(tmp_path):
    _write_lexical(tmp_path / "a", noise=2.0)
    _write_lexical(tmp_path / "b", noise=0.5)
    runs = compare.read_runs([tmp_path / "a", tmp_path / "b"], titles=["a", "b"])
    comparison = compare.compare_runs(runs, seed=1)
    differences = comparison.differences["b"]
    first, second = (run.models["trained"]["layer_0"].value.value for run in runs)
    assert differences["layer_0"].value.value == pytest.approx(second - first)
    assert differences["layer_0"].value.low > 0
    assert differences["layer_0"].value.method == "bootstrap over words"
    assert differences["layer_1"].value.value == differences["layer_1"].value.high == 0
    assert "24 recordings of 6 words" in compare_tables.as_text(comparison)
    _write_lexical(tmp_path / "c", noise=0.5, words=5)
    comparison = compare.compare_runs(compare.read_runs([tmp_path / "a", tmp_path / "c"]), seed=1)
    assert "other items" in comparison.notes[0]
    (tmp_path / "c" / "items.npz").write_text("x\n1\n", encoding="utf-8")
    with raises_fault("results.mismatch", "items.npz", error=ResultsError):
        compare.compare_runs(compare.read_runs([tmp_path / "a", tmp_path / "c"]), seed=1)


def test_other_data_are_refused_or_stand_without_differences(folders):
    _edit(folders[1], lambda content: content["provenance"]["manifest"].update({"test.tsv": "other"}))
    runs = compare.read_runs(folders)
    with raises_fault("results.other_data", "metrics.json", error=ResultsError) as caught:
        compare.compare_runs(runs, seed=1)
    assert "b (test.tsv)" in str(caught.value)
    comparison = compare.compare_runs(runs, seed=1, allow_different_data=True)
    assert comparison.differences == {}
    assert "so no differences" in comparison.notes[0]
    assert compare_tables.difference_rows(comparison) == []
    assert compare_tables.score_rows(comparison)[0][1:3] == ["a", "b"]


def test_items_that_are_missing_or_others_give_no_differences(folders):
    whole = (folders[1] / "items.npz").read_bytes()
    arrays = dict(np.load(folders[1] / "items.npz"))
    same = {name: np.array("other") for name in arrays if name.endswith("/same_as")}
    np.savez(folders[1] / "items.npz", **{**arrays, **same})
    _edit(folders[1], lambda content: content.pop("items_sha256"))
    comparison = compare.compare_runs(compare.read_runs(folders), seed=1)
    assert (comparison.differences, len(comparison.notes)) == ({}, 1)
    assert "other items" in comparison.notes[0]
    (folders[1] / "items.npz").unlink()  # as version 0.1.0 left it
    (note,) = compare.compare_runs(compare.read_runs(folders), seed=1).notes
    assert "run the evaluation again" in note
    (folders[1] / "items.npz").write_bytes(whole[:100])
    with raises_fault("results.broken", "items.npz", error=ResultsError):
        compare.compare_runs(compare.read_runs(folders), seed=1)


def test_recalls_within_pools_of_version_0_1_0_stand_with_the_others(folders):
    def older(content):
        recalls = {"speech_to_image_r1": content["models"]["trained"]["metrics"]["speech_to_image_r1"]}
        sizes = {"n": 2, "images": [4, 4], "captions": [6, 8], "seed": 3}
        models = {name: {"metrics": recalls} for name in content["models"]}
        content["folds"] = {**sizes, "models": models}

    _edit(folders[0], older)
    (run, _) = compare.read_runs(folders)
    name = "speech_to_image_r1, within 2 disjoint pools of 4 images and 6-8 captions (seed 3)"
    assert name in run.models["trained"]


def test_folders_that_are_no_results_are_refused(folders, tmp_path):
    with raises_fault("file.missing", "metrics.json", error=ResultsError):
        compare.read_runs([tmp_path])
    with raises_fault("setting.value", "titles", error=ResultsError):
        compare.read_runs(folders, titles=["same", "same"])
    with raises_fault("setting.value", "titles", error=ResultsError):
        compare.read_runs([folders[0], folders[0]])
    _write_abx(tmp_path / "abx", noise=0.0)
    with raises_fault("results.kind", "abx", error=ResultsError):
        compare.read_runs([folders[0], tmp_path / "abx"])
    _edit(folders[0], lambda content: content["models"].pop("trained"))
    with raises_fault("results.broken", "metrics.json", error=ResultsError) as caught:
        compare.read_runs(folders)
    assert "'trained', got 'untrained'" in str(caught.value)
    _edit(folders[1], lambda content: content.update(kind="comparison"))
    with raises_fault("results.kind", "metrics.json", error=ResultsError):
        compare.read_runs([folders[1]])


def test_abx_layers_are_compared_on_the_same_cells(tmp_path):
    first = _write_abx(tmp_path / "a", noise=0.0)
    second = _write_abx(tmp_path / "b", noise=5.0, layers=("layer_1", "layer_3"))
    runs = compare.read_runs([tmp_path / "a", tmp_path / "b"], titles=["a", "b"])
    comparison = compare.compare_runs(runs, seed=1)
    assert list(comparison.differences["b"]) == ["layer_1"]  # the layer that both have
    metric = comparison.differences["b"]["layer_1"]
    expected = 100 * (second.extra["layer_1"].error - first.extra["layer_1"].error)
    assert metric.value.value == pytest.approx(expected)
    assert metric.value.low <= metric.value.value
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
    with raises_fault("results.other_data", "metrics.json", error=ResultsError) as caught:
        compare.compare_runs(compare.read_runs([tmp_path / "a", tmp_path / "b"], titles=["a", "b"]), seed=1)
    assert "(seed)" in str(caught.value)


def test_baselines_that_agree_share_a_column(folders):
    runs = compare.read_runs(folders, titles=["a", "b"])
    header = compare_tables.score_rows(compare.compare_runs(runs, seed=1))[0]
    assert header == ["", "a", "b", "untrained (a)", "untrained (b)", "chance"]
    content = json.loads((folders[0] / "metrics.json").read_text(encoding="utf-8"))
    _edit(folders[1], lambda other: other["models"].update(untrained=content["models"]["untrained"]))
    runs = compare.read_runs(folders, titles=["a", "b"])
    header = compare_tables.score_rows(compare.compare_runs(runs, seed=1))[0]
    assert header == ["", "a", "b", "untrained", "chance"]


def test_a_baseline_of_a_run_with_folds_shares_the_column_of_one_without(folders):
    content = json.loads((folders[0] / "metrics.json").read_text(encoding="utf-8"))
    untrained = content["models"]["untrained"]
    more = {"speech_to_image_r1, within 2 pools": untrained["metrics"]["speech_to_image_r1"]}

    def with_folds(other):
        other["models"] = {
            name: {**untrained, "metrics": {**untrained["metrics"], **more}} for name in other["models"]
        }

    _edit(folders[1], with_folds)
    for order in (folders, folders[::-1]):
        runs = compare.read_runs(order, titles=["a", "b"])
        rows = compare_tables.score_rows(compare.compare_runs(runs, seed=1))
        assert rows[0] == ["", "a", "b", "untrained", "chance"]
        assert all(row[3] != "-" for row in rows)
    assert list(runs[1].models["untrained"]) == list(untrained["metrics"])  # what was read stays as it was


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
        has_difference = row["run"] == "b|2" and row["model"] == "trained"
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
    assert written == {"schema_version": 2, **json.loads(json.dumps(content))}
    assert written["provenance"]["versions"]["numpy"] == np.__version__
    assert written["runs"]["a_1"]["data"]["split"] == "test"
    with raises_fault("output.exists", "comparison.md") as caught:
        compare_tables.write_comparison(tmp_path / "out", comparison, content=content)
    assert "--force" in str(caught.value)
    compare_tables.write_comparison(tmp_path / "out", comparison, content=content, force=True)


def _without_one_key(content, path=()):
    """Yield (path of a key, the content without it) for every key at any depth."""
    for key, value in content.items():
        yield (*path, key), {name: other for name, other in content.items() if name != key}
        if isinstance(value, dict):
            for where, changed in _without_one_key(value, (*path, key)):
                yield where, {**content, key: changed}


def test_whatever_key_is_missing_is_named_with_its_file(folders, tmp_path):
    """By all that reads results: tables, pages and comparisons."""
    path = folders[0] / "metrics.json"
    content, places = json.loads(path.read_text(encoding="utf-8")), []
    evaluator = EVALUATORS["retrieval"]()
    for _, changed in _without_one_key(content):
        path.write_text(json.dumps(changed), encoding="utf-8")
        try:
            found = read_result(path)
            evaluator.describe(found.content)
            evaluator.table(found)
            evaluator.columns(found.content)
            evaluator.identity(found.content)
            score_rows({1: {"retrieval": found}})
            notes_of({1: {"retrieval": found}})
        except FaultError as error:
            places += [fault.place for fault in error.faults]
    assert len(places) > 10
    assert set(places) == {str(path)}
