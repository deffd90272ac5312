"""Result files: whole, hashed, refused when they are not what they should be."""

from __future__ import annotations

import hashlib
import json
import math

import numpy as np
import pytest

from fairseq_vgs.evaluation import results
from fairseq_vgs.evaluation.metrics.bootstrap import Interval
from fairseq_vgs.files import atomic


def test_metrics_survive_a_round_trip(tmp_path):
    metric = results.Metric(Interval(12.5, 10.0, 15.0, "bootstrap over images"), 40, 0.5, "%")
    empty = results.Metric(Interval(math.nan, math.nan, math.nan), 0, None, "")
    path = tmp_path / "new" / "metrics.json"
    results.write_metrics(path, {"kind": "retrieval", "a": metric.as_json(), "b": empty.as_json()})
    content = results.read_metrics(path, kind="retrieval")
    assert content["schema_version"] == results.SCHEMA_VERSION
    assert results.Metric.from_json(content["a"]) == metric
    assert content["b"]["value"] is None
    assert math.isnan(results.Metric.from_json(content["b"]).value.value)


def test_files_are_not_overwritten_without_force(tmp_path):
    path = tmp_path / "metrics.json"
    results.write_metrics(path, {"kind": "retrieval"})
    with pytest.raises(FileExistsError, match="--force"):
        results.write_metrics(path, {"kind": "other"})
    results.write_metrics(path, {"kind": "other"}, force=True)
    assert results.read_metrics(path, kind="other")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "must be JSON"),
        ('{"schema_version": 99, "kind": "retrieval"}', "schema_version must be 1, got 99"),
        ("[]", "schema_version must be 1, got None"),
        ('{"schema_version": 1, "kind": "abx"}', "kind must be 'retrieval', got 'abx'"),
    ],
)
def test_foreign_files_are_refused(tmp_path, text, message):
    path = tmp_path / "metrics.json"
    path.write_text(text)
    with pytest.raises(results.ResultsError, match=message):
        results.read_metrics(path, kind="retrieval")


def test_missing_files_are_named(tmp_path):
    with pytest.raises(results.ResultsError, match="must exist; run fairseq-vgs evaluate retrieval"):
        results.read_metrics(tmp_path / "metrics.json", kind="retrieval")
    with pytest.raises(results.ResultsError, match="must exist"):
        results.read_table(tmp_path / "items.csv")
    with pytest.raises(results.ResultsError, match="array of numbers"):
        results.read_array(tmp_path / "speech.npy")


def test_tables_keep_text_and_full_precision(tmp_path):
    path = tmp_path / "items.csv"
    rows = [("a,b", 'say "hi"', 0.1 + 0.2, math.nan, 3), ("русский\nтекст", "", np.float64(1.5), np.nan, 4)]
    results.write_table(path, ("id", "text", "score", "rank", "n"), rows)
    read = results.read_table(path)
    assert [row["id"] for row in read] == ["a,b", "русский\nтекст"]
    assert float(read[0]["score"]) == 0.1 + 0.2
    assert read[0]["rank"] == ""
    assert read[1]["score"] == "1.5"


def test_arrays_round_trip(tmp_path):
    atomic.write_array(tmp_path / "x.npy", np.eye(3, dtype=np.float32))
    np.testing.assert_array_equal(results.read_array(tmp_path / "x.npy"), np.eye(3))


def test_provenance_hashes_the_files_of_the_split(tmp_path):
    (tmp_path / "test.tsv").write_text(".\n")
    (tmp_path / "test.pairs.tsv").write_text("x\n")
    (tmp_path / "train.tsv").write_text("other\n")
    record = results.provenance(command="fairseq-vgs ...", seed=1, folder=tmp_path, split="test")
    assert set(record.manifest) == {"test.tsv", "test.pairs.tsv"}
    assert record.manifest["test.tsv"] == hashlib.sha256(b".\n").hexdigest()
    assert record.machine["cores"] >= 1
    assert {"python", "torch", "numpy", "fairseq"} <= set(record.versions)
    json.dumps(record.as_json())
