"""ABX: numbers, differences, notes, files and tables."""

import csv
from dataclasses import asdict

import numpy as np
import pytest
import torch
from support.abx_material import random_material

from fairseq_vgs.evaluation.evaluators.abx import (
    MADE_ITEMS,
    PAIRS,
    Abx,
    describe_counts,
    is_collapsed,
    phone_scores,
)
from fairseq_vgs.evaluation.results import Result, differences
from fairseq_vgs.metrics.abx import abx_scores

TITLES = {"trained": "trained (7 updates)", "untrained": "untrained", "mfcc": "MFCC"}


def _model(items, features, *, frame_rate=50.0, **options):
    return phone_scores(abx_scores(features, items, **options), frame_rate=frame_rate)


def _difference(own, other):
    return differences(own.items, other.items, own.estimates(seed=1), seed=1, one_for_all=True)


def _content(models):
    return {
        "kind": "abx",
        "items": {"file": "x.item"},
        "condition": {"speaker": "within", "context": "within", "distance": "angular"},
        "notes": Abx().notes(models, TITLES),
        "models": {
            name: {
                "title": TITLES[name],
                **model.details,
                "metrics": {layer: metric.as_json() for layer, metric in model.estimates(seed=1).items()},
            }
            for name, model in models.items()
        },
    }


@pytest.fixture(scope="module")
def models():
    items, arrays = random_material(seed=0, n_tokens=150)
    generator = torch.Generator().manual_seed(0)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    noisy = {name: t + 3 * torch.randn(t.shape, generator=generator) for name, t in tensors.items()}
    good = {name: {"layer_0": noisy[name], "layer_1": tensors[name]} for name in tensors}
    bad = {name: {"layer_0": noisy[name], "layer_1": noisy[name]} for name in tensors}
    one = {name: {"mfcc": noisy[name]} for name in tensors}
    return {"trained": _model(items, good), "untrained": _model(items, bad), "mfcc": _model(items, one)}


def test_metrics(models):
    metrics = models["trained"].estimates(seed=1)
    for name, result in models["trained"].extra.items():
        metric = metrics[name]
        assert metric.value.value == pytest.approx(100 * result.error)
        assert metric.value.low < metric.value.value < metric.value.high
        assert (metric.n, metric.chance, metric.unit) == (len(result.cells), 50.0, "%")
        assert metric.value.method == "bootstrap over phones"
    assert metrics["layer_1"].value.value < metrics["layer_0"].value.low  # few phones: wide intervals


def test_differences_are_paired(models):
    found = _difference(models["trained"], models["untrained"])
    assert found["layer_0"].value.value == found["layer_0"].value.low == found["layer_0"].value.high == 0.0
    trained, untrained = (models[name].extra["layer_1"].error for name in ("trained", "untrained"))
    assert found["layer_1"].value.value == pytest.approx(100 * (trained - untrained))
    assert found["layer_1"].value.high < 0.0
    against_one = _difference(models["trained"], models["mfcc"])
    assert against_one["layer_1"].value == found["layer_1"].value


def test_no_difference_of_other_pairs(models):
    items, arrays = random_material(seed=0, n_tokens=150)
    features = {name: {"layer_0": torch.from_numpy(array)} for name, array in arrays.items()}
    fewer = _model([item for item in items if item.phone != "p0"], features)
    assert _difference(models["trained"], fewer) is None


def test_models_on_other_cells_of_the_same_pairs_are_not_subtracted(models):
    items, arrays = random_material(seed=0, n_tokens=150)
    # the last token of a file may have no frame
    rare = {name: {"layer_0": torch.from_numpy(array)[:-1]} for name, array in arrays.items()}
    cut = _model([item for item in items if item != items[0]], rare)
    cut.details["frame_rate"] = 25.0
    full = models["trained"]
    assert cut.items[PAIRS].ids == full.items[PAIRS].ids
    assert cut.items[PAIRS].same_as != full.items[PAIRS].same_as
    assert _difference(full, cut) is None
    both = {"trained": full, "untrained": models["untrained"], "mfcc": cut}
    (note,) = Abx().notes(both, TITLES)
    assert note.startswith("MFCC was not measured on the same items as trained (7 updates) (")
    assert note.endswith("at 25 and 50 Hz): no paired difference")
    _, *lines = Abx().describe(_content(both))
    assert [line.split(": ")[0].strip() for line in lines] == list(TITLES.values())
    assert f" {cut.details['counts']['cells']} cells" in lines[2]
    assert Abx().notes(models, TITLES) == []
    assert Abx().describe(_content(models))[1:] == [f"  {describe_counts(full.details['counts'])}"]


def test_files(models, tmp_path):
    Abx().write_files(tmp_path / "out", models, force=False)
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(Abx.files) - {MADE_ITEMS}
    with (tmp_path / "out" / "cells_trained.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    result = models["trained"].extra["layer_1"]
    assert [float(row["layer_1"]) for row in rows] == result.cell_errors.tolist()
    assert sum(int(row["triples"]) for row in rows) == result.counts.triples
    first = rows[0]
    assert (first["phone_a"], first["phone_b"]) == result.cells.pairs[result.cells.pair[0]]
    assert first["speaker"] == first["x_speaker"] == result.cells.speakers[result.cells.speaker[0]]
    assert models["trained"].details["counts"] == asdict(result.counts)


def test_table(models):
    lines = Abx().table(Result(_content(models), None)).splitlines()
    assert lines[0].split("  ")[-1] == "untrained"
    assert [line.split()[0] for line in lines[1:]] == ["layer_0", "layer_1", "mfcc", "chance"]
    assert lines[-1].split() == ["chance", "50.0"]
    assert f"{100 * models['trained'].extra['layer_0'].error:.1f} [" in lines[1]


def test_counts_in_words(models):
    counts = models["trained"].details["counts"]
    text = describe_counts(counts)
    assert text.startswith(f"150 items, {counts['cells']} cells, {counts['phone_pairs']} ordered phone pairs")
    assert f"{counts['subsampled']} drawn out" in text


def test_collapsed():
    items, arrays = random_material(seed=0, n_tokens=60)
    features = {name: {"layer_0": torch.ones(array.shape)} for name, array in arrays.items()}
    model = _model(items, features)
    assert is_collapsed(model.extra)
    metric = model.estimates(seed=1)["layer_0"]
    assert (metric.value.value, metric.value.low, metric.value.high) == (50.0, 50.0, 50.0)
    assert not np.any(model.extra["layer_0"].cell_errors != 0.5)
