"""Phone ABX of the embedded recordings: figures that are known from elsewhere."""

from dataclasses import replace
from decimal import Decimal

import pytest
from support.abx_material import write_checkpoint
from support.source_files import CHECKOUT

from fairseq_vgs.checkpoints.load import load_checkpoint
from fairseq_vgs.features.layers import MFCC_FRAME_RATE, layer_features, mfcc_features
from fairseq_vgs.features.recordings import check_items, open_recordings
from fairseq_vgs.metrics.abx import abx_scores, read_items

FOLDER = CHECKOUT / "manifests" / "embedded" / "abx"


@pytest.fixture(scope="module")
def recordings():
    return open_recordings(FOLDER)


@pytest.fixture(scope="module")
def items(recordings):
    found = read_items(FOLDER / "triphone.item")
    check_items(found, recordings, name="triphone.item")
    return found


def _some(items, *, n_files):
    files = set(sorted({item.file for item in items})[:n_files])
    return [item for item in items if item.file in files]


def test_mfcc(recordings, items):
    result = abx_scores(mfcc_features(recordings), items, frame_rate=MFCC_FRAME_RATE)["mfcc"]
    assert 0.05 < result.error < 0.07
    counts = result.counts
    assert (counts.items, counts.cells, counts.no_frame, counts.clamped, counts.overlapping) == (
        4003,
        2690,
        0,
        0,
        2,  # x and b that follow each other, as "v" and "l" between two "ay"
    )


def test_labels_that_are_moved_are_near_chance(recordings, items):
    some = _some(items, n_files=20)
    shift = Decimal("0.35")
    last = {name: Decimal(found.n_samples) / 16_000 for name, found in recordings.items()}
    moved = [
        replace(item, onset=item.onset + shift, offset=item.offset + shift)
        for item in some
        if item.offset + shift < last[item.file]
    ]
    features = mfcc_features(recordings)
    errors = [
        abx_scores(features, tokens, frame_rate=MFCC_FRAME_RATE)["mfcc"].error for tokens in (some, moved)
    ]
    assert errors[0] < 0.1
    assert errors[1] > 0.4


def test_an_untrained_model_is_far_above_mfcc_and_below_chance(recordings, items, tmp_path):
    checkpoint = load_checkpoint(write_checkpoint(tmp_path / "checkpoint.pt"))
    results = abx_scores(layer_features(checkpoint, recordings), _some(items, n_files=15))
    assert list(results) == ["layer_0", "layer_1", "layer_2", "layer_3"]
    assert all(0.3 < result.error < 0.5 for result in results.values())
