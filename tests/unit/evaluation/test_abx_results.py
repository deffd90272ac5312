"""Figures, files and tables of ABX results."""

import csv
import json

import numpy as np
import pytest
import torch
from support.abx_material import random_material

from fairseq_vgs.evaluation import abx_results
from fairseq_vgs.evaluation.metrics.abx import abx_scores
from fairseq_vgs.evaluation.results import ResultsError, read_metrics


def _model(items, features, title, **options):
    layers = abx_scores(features, items, **options)
    return abx_results.AbxModel(layers, 50.0, title, 7, 0.5)


@pytest.fixture(scope="module")
def models():
    items, arrays = random_material(seed=0, n_tokens=150)
    generator = torch.Generator().manual_seed(0)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    noisy = {name: t + 3 * torch.randn(t.shape, generator=generator) for name, t in tensors.items()}
    good = {name: {"layer_0": noisy[name], "layer_1": tensors[name]} for name in tensors}
    bad = {name: {"layer_0": noisy[name], "layer_1": noisy[name]} for name in tensors}
    one = {name: {"mfcc": noisy[name]} for name in tensors}
    return {
        "trained": _model(items, good, "trained (7 updates)"),
        "untrained": _model(items, bad, "untrained"),
        "mfcc": _model(items, one, "MFCC"),
    }


def test_metrics(models):
    metrics = abx_results.layer_metrics(models["trained"], seed=1)
    for name, result in models["trained"].layers.items():
        metric = metrics[name]
        assert metric.value.value == pytest.approx(100 * result.error)
        assert metric.value.low < metric.value.value < metric.value.high
        assert (metric.n, metric.chance, metric.unit) == (len(result.cells), 50.0, "%")
        assert metric.value.method == "bootstrap over phones"
    assert metrics["layer_1"].value.value < metrics["layer_0"].value.low  # few phones: wide intervals


def test_differences_are_paired(models):
    found = abx_results.layer_differences(models["trained"], models["untrained"], seed=1)
    assert found["layer_0"].value.value == found["layer_0"].value.low == found["layer_0"].value.high == 0.0
    expected = 100 * (models["trained"].layers["layer_1"].error - models["untrained"].layers["layer_1"].error)
    assert found["layer_1"].value.value == pytest.approx(expected)
    assert found["layer_1"].value.high < 0.0
    against_one = abx_results.layer_differences(models["trained"], models["mfcc"], seed=1)
    assert against_one["layer_1"].value == found["layer_1"].value


def test_no_difference_of_other_pairs(models):
    items, arrays = random_material(seed=0, n_tokens=150)
    features = {name: {"layer_0": torch.from_numpy(array)} for name, array in arrays.items()}
    fewer = _model([item for item in items if item.phone != "p0"], features, "fewer")
    assert abx_results.layer_differences(models["trained"], fewer, seed=1) is None


def test_models_on_other_cells_of_the_same_pairs_are_not_subtracted(models):
    items, arrays = random_material(seed=0, n_tokens=150)
    rare = {}
    for name, array in arrays.items():
        rare[name] = {"layer_0": torch.from_numpy(array)[:-1]}  # the last token of a file may have no frame
    cut = abx_results.AbxModel(
        abx_scores(rare, [item for item in items if item != items[0]]), 25.0, "cut", 7, 0.5
    )
    full = models["trained"]
    assert cut.any_layer.cells.pairs == full.any_layer.cells.pairs
    assert not abx_results.same_cells(cut.any_layer.cells, full.any_layer.cells)
    assert abx_results.layer_differences(full, cut, seed=1) is None
    both = {"trained": full, "untrained": models["untrained"], "cut": cut}
    (note,) = abx_results.cell_notes(both)
    assert note.startswith("cut was not measured on the same items as trained (7 updates) (")
    assert note.endswith("at 25 and 50 Hz): no paired difference")
    lines = abx_results.describe_models(both)
    assert [line.split(": ")[0] for line in lines] == ["trained (7 updates)", "untrained", "cut"]
    assert f" {len(cut.any_layer.cells)} cells" in lines[2]
    assert abx_results.cell_notes(models) == []
    assert abx_results.describe_models(models) == [abx_results.describe_counts(full)]


def test_files(models, tmp_path):
    metrics = {name: abx_results.layer_metrics(model, seed=1) for name, model in models.items()}
    content = {
        "models": {name: abx_results.model_json(model, metrics[name]) for name, model in models.items()}
    }
    abx_results.write_abx(tmp_path / "out", metrics=content, models=models)
    written = abx_results.read_abx(tmp_path / "out")
    assert written["models"]["trained"] == json.loads(json.dumps(content["models"]["trained"]))
    assert written["models"]["trained"]["counts"]["items"] == 150
    with (tmp_path / "out" / "cells_trained.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    result = models["trained"].layers["layer_1"]
    assert [float(row["layer_1"]) for row in rows] == result.cell_errors.tolist()
    assert sum(int(row["triples"]) for row in rows) == result.counts.triples
    first = rows[0]
    assert (first["phone_a"], first["phone_b"]) == result.cells.pairs[result.cells.pair[0]]
    assert first["speaker"] == first["x_speaker"] == result.cells.speakers[result.cells.speaker[0]]
    with pytest.raises(ResultsError, match="kind must be 'retrieval'"):
        read_metrics(tmp_path / "out" / "metrics.json", kind="retrieval")


def test_table(models):
    metrics = {name: abx_results.layer_metrics(model, seed=1) for name, model in models.items()}
    lines = abx_results.format_table(models, metrics).splitlines()
    assert lines[0].split("  ")[-1] == "untrained"
    assert [line.split()[0] for line in lines[1:]] == ["layer_0", "layer_1", "mfcc", "chance"]
    assert lines[-1].split() == ["chance", "50.0"]
    assert f"{100 * models['trained'].layers['layer_0'].error:.1f} [" in lines[1]


def test_counts_in_words(models):
    text = abx_results.describe_counts(models["trained"])
    counts = models["trained"].any_layer.counts
    assert text.startswith(f"150 items, {counts.cells} cells, {counts.phone_pairs} ordered phone pairs")
    assert f"{counts.subsampled} drawn out" in text


def test_collapsed():
    items, arrays = random_material(seed=0, n_tokens=60)
    features = {name: {"layer_0": torch.ones(array.shape)} for name, array in arrays.items()}
    model = _model(items, features, "ones")
    assert model.is_collapsed
    metric = abx_results.layer_metrics(model, seed=1)["layer_0"]
    assert (metric.value.value, metric.value.low, metric.value.high) == (50.0, 50.0, 50.0)
    assert not np.any(model.any_layer.cell_errors != 0.5)
