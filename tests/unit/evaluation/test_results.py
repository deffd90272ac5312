"""Result files: whole, hashed, refused when they are not what they should be."""

from __future__ import annotations

import hashlib
import json
import math

import numpy as np
import pytest
from support.faults import raises_fault

from fairseq_vgs.evaluation import results
from fairseq_vgs.files import atomic
from fairseq_vgs.metrics.intervals import Interval


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
    with raises_fault("output.exists", "metrics.json") as caught:
        results.write_metrics(path, {"kind": "other"})
    assert "--force" in str(caught.value)
    results.write_metrics(path, {"kind": "other"}, force=True)
    assert results.read_metrics(path, kind="other")


@pytest.mark.parametrize(
    ("text", "code", "place"),
    [
        ("{", "json.syntax", "metrics.json: character 2"),
        ('{"schema_version": 99, "kind": "retrieval"}', "results.schema_version", "metrics.json"),
        ("[]", "json.kind", "metrics.json"),
        ('{"schema_version": 1, "kind": "abx"}', "results.kind", "metrics.json"),
    ],
)
def test_foreign_files_are_refused(tmp_path, text, code, place):
    path = tmp_path / "metrics.json"
    path.write_text(text)
    with raises_fault(code, place, error=results.ResultsError):
        results.read_metrics(path, kind="retrieval")


def test_missing_files_are_named(tmp_path):
    with raises_fault("file.missing", "metrics.json", error=results.ResultsError):
        results.read_metrics(tmp_path / "metrics.json", kind="retrieval")
    with raises_fault("file.missing", "items.csv", error=results.ResultsError):
        results.read_table(tmp_path / "items.csv")
    with raises_fault("results.broken", "speech.npy", error=results.ResultsError):
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


def test_names_like_formulas_are_kept_and_announced(tmp_path, caplog):
    path = tmp_path / "items.csv"
    names = ["=1+1", "-", "-5", "+4.5", "@SUM(A1)", "-x", "\t=1", "a=b"]
    results.write_table(path, ("id", "score"), [(name, -0.5) for name in names])
    assert [row["id"] for row in results.read_table(path)] == names
    (message,) = caplog.messages
    assert message.startswith(f"{path}: 4 cells begin like a formula, the first is '=1+1'")
    results.write_table(tmp_path / "plain.csv", ("id", "score"), [("a", -1e-5), ("-", 2)])
    assert len(caplog.messages) == 1


def test_arrays_round_trip(tmp_path):
    atomic.write_array(tmp_path / "x.npy", np.eye(3, dtype=np.float32))
    np.testing.assert_array_equal(results.read_array(tmp_path / "x.npy"), np.eye(3))


def test_hashes_are_those_of_the_files_of_the_split(tmp_path):
    (tmp_path / "test.tsv").write_text(".\n")
    (tmp_path / "test.pairs.tsv").write_text("x\n")
    (tmp_path / "train.tsv").write_text("other\n")
    found = results.manifest_hashes(tmp_path, "test")
    assert set(found) == {"test.tsv", "test.pairs.tsv"}
    assert found["test.tsv"] == hashlib.sha256(b".\n").hexdigest()


def scores(values, *, ids="abcd", metric="long", **changes):
    found = {"ids": {"id": list(ids)}, "units": np.arange(len(ids)), "resampled": "recordings"}
    items = results.Items(**{**found, **changes}, values={metric: np.array(values, dtype=float)})
    return results.Scores({"recordings": items}, {metric: results.Reported("%", 25.0, "hits")})


def test_items_are_read_as_written_and_shared_by_models(tmp_path):
    models = {
        "trained": scores([0, 100, 0, 100]).items,
        "untrained": scores([0, 0, 0, 100]).items,
        "mfcc": scores([0, 100], ids="ab", metric="mfcc").items,
    }
    results.write_result(tmp_path, {"kind": "x"}, models)
    with np.load(tmp_path / results.ITEMS_NAME) as file:
        assert sum(name.endswith("/units") for name in file.files) == 2
    found = results.read_items(tmp_path / results.ITEMS_NAME)
    assert list(found) == list(models)
    for name, sets in models.items():
        own, read = sets["recordings"], found[name]["recordings"]
        assert (read.ids, read.resampled, read.same_as) == (own.ids, own.resampled, own.same_as)
        np.testing.assert_array_equal(read.units, own.units)
        for metric, values in own.values.items():
            np.testing.assert_array_equal(read.values[metric], values)


def test_items_of_another_evaluation_are_refused(tmp_path):
    content = {"kind": "x", "models": {"trained": {"metrics": {}}}, "provenance": {"manifest": {}}}
    for name, values in (("a", [0, 100, 0, 100]), ("b", [0, 0, 0, 100])):
        results.write_result(tmp_path / name, content, {"trained": scores(values).items})
    found = results.read_result(tmp_path / "a")
    (tmp_path / "b" / "items.npz").rename(tmp_path / "a" / "items.npz")
    with raises_fault("results.mismatch", "items.npz", error=results.ResultsError) as error:
        _ = found.items
    assert "run fairseq-vgs evaluate x again" in str(error.value)


def test_items_of_the_earlier_schema_are_not_checked(tmp_path):
    content = {"kind": "x", "models": {"trained": {"metrics": {}}}, "provenance": {"manifest": {}}}
    results.write_result(tmp_path, content, {"trained": scores([0, 0, 0, 100]).items})
    (tmp_path / "metrics.json").write_text(json.dumps({"schema_version": 1, **content}))
    assert list(results.read_result(tmp_path).items) == ["trained"]


def test_differences_need_the_same_items():
    own, other = scores([0, 100, 0, 100]), scores([0, 0, 0, 100])
    metrics = own.estimates(seed=1)
    assert (metrics["long"].value.value, metrics["long"].n, metrics["long"].chance) == (50, 4, 25)
    found = results.differences(own.items, other.items, metrics, seed=1)
    assert (found["long"].value.value, found["long"].unit) == (25, results.POINTS)
    assert found["long"].value.method == "bootstrap over recordings"
    for changes in ({"ids": "abcx"}, {"units": np.array([0, 0, 1, 2])}, {"same_as": "else"}):
        different = scores([0, 0, 0, 100], **changes)
        assert results.differences(own.items, different.items, metrics, seed=1) is None


def test_one_metric_is_subtracted_from_all_of_a_model_only_where_asked():
    own, mfcc = scores([0, 100, 0, 100]), scores([0, 0, 0, 100], metric="mfcc")
    metrics = own.estimates(seed=1)
    found = results.differences(own.items, mfcc.items, metrics, seed=1, one_for_all=True)
    assert found["long"].value.value == 25
    assert results.differences(own.items, mfcc.items, metrics, seed=1) == {}


def test_missing_and_broken_items_are_told_apart(tmp_path):
    with pytest.raises(results.ResultsError) as error:
        results.read_items(tmp_path / "items.npz")
    assert error.value.codes == ("results.items_missing",)
    results.write_result(tmp_path, {"kind": "x"}, {"trained": scores([0, 100, 0, 100]).items})
    whole = (tmp_path / "items.npz").read_bytes()
    start = 30 + sum(int.from_bytes(whole[at : at + 2], "little") for at in (26, 28))  # of the first array
    damaged = whole[:start] + b"\xff" * 10 + whole[start + 10 :]
    atomic.write_array(tmp_path / "one.npy", np.eye(2))
    for content in (b"x", b"", whole[:-30], damaged, (tmp_path / "one.npy").read_bytes()):
        (tmp_path / "items.npz").write_bytes(content)
        with raises_fault("results.broken", "items.npz", error=results.ResultsError):
            results.read_items(tmp_path / "items.npz")


@pytest.mark.parametrize("content", [b"", b"x", b"\x93NUMPY\x01\x00", b"PK\x03\x04"])
def test_broken_arrays_are_named(tmp_path, content):
    (tmp_path / "x.npy").write_bytes(content)
    with raises_fault("results.broken", "x.npy", error=results.ResultsError):
        results.read_array(tmp_path / "x.npy")


def test_damaged_items_are_told_by_their_hash(tmp_path):
    content = {"kind": "x", "models": {"trained": {"metrics": {}}}, "provenance": {"manifest": {}}}
    results.write_result(tmp_path, content, {"trained": scores([0, 100, 0, 100]).items})
    (tmp_path / "items.npz").write_bytes(b"")
    with raises_fault("results.mismatch", "items.npz", error=results.ResultsError):
        _ = results.read_result(tmp_path).items
