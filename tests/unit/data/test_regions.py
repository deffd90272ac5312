import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.faults import raises_fault

from fairseq_vgs.data import regions as module
from fairseq_vgs.data.bad_items import BadItemError
from fairseq_vgs.data.regions import load_regions
from fairseq_vgs.files import provenance
from fairseq_vgs.files import tables as file_tables
from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.manifest import ManifestFolder, write_regions
from fairseq_vgs.manifest.schema import RegionRow
from fairseq_vgs.manifest.summary import write_region_summary

INDEX = {"a": 0, "b": 1, "c": 2}


def row(image_id, feature_row, x0=0.0):
    return RegionRow(image_id, feature_row, x0, 0.25, 1.0, 0.5)


def store(tmp_path, rows, *, features=None, max_regions=36):
    if features is None:
        features = np.arange(20, dtype=np.float16).reshape(5, 4)
    np.save(tmp_path / "regions.npy", features)
    write_regions(tmp_path / "regions.tsv", rows, force=True)
    return load_regions(ManifestFolder(tmp_path), image_index=INDEX, max_regions=max_regions)


def test_rows_of_a_picture_in_table_order(tmp_path):
    regions = store(tmp_path, [row("b", 4), row("a", 0), row("b", 2, 0.5), row("a", 0, 0.5)])
    assert [regions.n_regions(image) for image in range(3)] == [2, 2, 0]
    assert regions.dim == 4
    features = regions.features(1)
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features, [[16, 17, 18, 19], [8, 9, 10, 11]])
    np.testing.assert_array_equal(regions.boxes(1), np.float32([[0, 0.25, 1, 0.5], [0.5, 0.25, 1, 0.5]]))
    np.testing.assert_array_equal(regions.features(0), [[0, 1, 2, 3], [0, 1, 2, 3]])


def test_keeps_the_first_regions_and_counts_the_others(tmp_path):
    regions = store(tmp_path, [row("a", 3), row("b", 1), row("a", 2), row("a", 1)], max_regions=2)
    assert regions.n_cut == 1
    np.testing.assert_array_equal(regions.features(0)[:, 0], [12, 8])
    assert regions.n_regions(1) == 1


def test_faults_are_listed_together(tmp_path):
    with pytest.raises(FaultError) as caught:
        store(tmp_path, [row("a", 5), row("z", 0), row("b", 9)])
    assert [(fault.place, fault.code) for fault in caught.value.faults] == [
        ("regions.tsv:2", "regions.row"),
        ("regions.tsv:3", "picture.unknown"),
        ("regions.tsv:4", "regions.row"),
    ]


def test_nan_features_are_a_bad_item(tmp_path):
    features = np.ones((5, 4), dtype=np.float16)
    features[2, 1] = np.nan
    regions = store(tmp_path, [row("a", 2), row("b", 1)], features=features)
    assert regions.features(1).sum() == 4
    with raises_fault("regions.not_finite", "regions.npy: rows [2]", error=BadItemError):
        regions.features(0)


def test_workers_open_the_file_themselves(tmp_path):
    regions = store(tmp_path, [row("a", 1)], features=np.ones((500, 400), dtype=np.float16))
    regions.features(0)
    pickled = pickle.dumps(regions)
    assert len(pickled) < 20_000
    np.testing.assert_array_equal(pickle.loads(pickled).features(0), regions.features(0))


@pytest.mark.parametrize("kind", ["absent", "truncated", "pickled", "one axis", "integers", "float32"])
def test_unusable_feature_files(tmp_path, kind):
    path: Path = tmp_path / "regions.npy"
    contents = {"one axis": np.ones(3), "integers": np.ones((2, 2), dtype=np.int64)}
    contents["float32"] = np.ones((2, 2), dtype=np.float32)
    if kind in contents:
        np.save(path, contents[kind])
    elif kind == "pickled":
        np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    elif kind == "truncated":
        np.save(path, np.ones((50, 50)))
        path.write_bytes(path.read_bytes()[:500])
    write_regions(tmp_path / "regions.tsv", [row("a", 0)])
    with raises_fault("file.missing" if kind == "absent" else "regions.unreadable", "regions.npy"):
        load_regions(ManifestFolder(tmp_path), image_index=INDEX, max_regions=1)


# Values of a line of the table, good ones mostly.
LINES = st.tuples(
    st.sampled_from([*"aaabbbccc", "z", "", " a"]),
    st.sampled_from([*"0123401234", "5", "-1", "01", "9" * 18]),
    st.sampled_from(["0", "0.25", ".25", "2.5e-1", "0.2500000001", "0.3"] * 3 + ["-0.1", "nan", "0_1", "x"]),
    st.sampled_from(["0", "0.0", "-0", "0.5"] * 3 + ["1", " 0", ""]),
    st.sampled_from(["1", "1.0", "0.75"] * 4 + ["1.5", "0.25"]),
    st.sampled_from(["1", "0.75"] * 5 + ["\u0661", "1\t1"]),
)


@settings(deadline=None, max_examples=200)
@given(
    lines=st.lists(LINES, min_size=1, max_size=8),
    header=st.permutations(range(6)),
    end=st.sampled_from(["\n", "\n", "\n", "\r\n", "", "\n\n"]),
    chunk=st.sampled_from([1, 40, 1 << 20]),
    skip_bad=st.booleans(),
)
def test_columns_are_read_as_lines_are(folder, lines, header, end, chunk, skip_bad):
    names = ("image_id", "feature_row", "x0", "y0", "x1", "y1")
    rows = ["\t".join(row[place] for place in header) for row in (names, *lines)]
    separator = end if end == "\r\n" else "\n"
    folder.regions.write_bytes((separator.join(rows) + end).encode())
    found = []
    for replaced in ({"CHUNK_BYTES": chunk}, {"read_region_columns": refuse}):
        with pytest.MonkeyPatch.context() as patch:
            for name, value in replaced.items():
                patch.setattr(module if hasattr(module, name) else file_tables, name, value)
            found.append(outcome(folder, skip_bad=skip_bad))
    assert found[0] == found[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("regions")
    np.save(path / "regions.npy", np.ones((5, 4), dtype=np.float16))
    return ManifestFolder(path)


def refuse(*args):
    raise file_tables.IrregularTableError


def outcome(folder, *, skip_bad):
    """All that a table leads to, as values that compare."""
    try:
        store = load_regions(folder, image_index=INDEX, max_regions=2, skip_bad=skip_bad)
    except FaultError as error:
        return str(error)
    arrays = (store._offsets, store._feature_rows, store._boxes)
    return store.n_cut, [(array.dtype, array.shape, array.tobytes()) for array in arrays]


def test_good_tables_are_read_by_columns(folder, monkeypatch):
    monkeypatch.setattr(module, "scan_regions", None)
    write_regions(folder.regions, [row("b", 4), row("a", 0), row("a", 0, 0.5)], force=True)
    store = load_regions(folder, image_index=INDEX, max_regions=9)
    assert [store.n_regions(image) for image in range(3)] == [2, 1, 0]


@pytest.fixture
def described(tmp_path):
    """A folder whose summary.json holds the hashes of its regions."""
    store(tmp_path, [row("a", 1), row("b", 2)])
    write_region_summary(tmp_path, {}, summary={}, made_by="a test")
    return tmp_path


@pytest.mark.parametrize("name", ["regions.tsv", "regions.npy"])
def test_regions_that_were_changed_are_refused(described, name):
    content = bytearray((described / name).read_bytes())
    content[-2] ^= 1
    (described / name).write_bytes(content)
    with raises_fault("regions.mismatch", name):
        load_regions(ManifestFolder(described), image_index=INDEX, max_regions=1)


def test_large_features_are_hashed_again_only_if_they_changed(described, tmp_path, monkeypatch):
    hashed = []
    original = provenance.sha256_file
    monkeypatch.setattr(provenance, "sha256_file", lambda path: hashed.append(path.name) or original(path))
    monkeypatch.setattr(provenance, "REMEMBERED_BYTES", (described / "regions.npy").stat().st_size)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for _ in range(2):
        load_regions(ManifestFolder(described), image_index=INDEX, max_regions=1)
    assert hashed == ["regions.tsv", "regions.npy", "regions.tsv"]
    features = described / "regions.npy"
    stamp = features.stat()
    features.write_bytes(features.read_bytes()[:-1] + b"x")
    os.utime(features, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # the entry's own time tells
    with raises_fault("regions.mismatch", "regions.npy"):
        load_regions(ManifestFolder(described), image_index=INDEX, max_regions=1)
