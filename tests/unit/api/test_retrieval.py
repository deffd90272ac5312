"""Recalls, ranks and chance by hand, and what ids mean."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.faults import raises_fault

import fairseq_vgs as vgs

SPEECH = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
IMAGES = np.array([[1.0, 0.0], [0.0, 1.0]])


def test_by_hand():
    """The second caption prefers the wrong image; both images find a caption of theirs first."""
    found = vgs.retrieval(SPEECH, IMAGES, ["dog", "dog", "cat"])
    assert found.values["speech_to_image_r1"] == pytest.approx(200 / 3)
    assert found.values["speech_to_image_r5"] == 100
    assert found.values["image_to_speech_r1"] == 100
    assert found.values["speech_to_image_median_rank"] == 1
    assert found.chance["speech_to_image_r1"] == 50
    assert found.chance["image_to_speech_r1"] == pytest.approx(50)  # of 2/3 and 1/3
    assert (found.n_captions, found.n_images) == (3, 2)
    assert json.loads(json.dumps(found.as_dict()))["chance"]["speech_to_image_r1"] == 50
    rows = found.table().splitlines()
    assert rows[0].split() == [
        "3",
        "captions,",
        "2",
        "images",
        "R@1",
        "%",
        "R@5",
        "%",
        "R@10",
        "%",
        "median",
        "rank",
    ]
    assert rows[1].split()[3:] == ["66.7", "100.0", "100.0", "1"]
    assert str(found) == found.table()


def test_images_may_come_once_for_each_caption():
    """An image counts once, whatever the order of captions."""
    ids = ["dog", "cat", "dog"]
    repeated = IMAGES[[0, 1, 0]]
    expected = vgs.retrieval(SPEECH[[0, 2, 1]], IMAGES, ids, ids_of_images=["dog", "cat"])
    assert vgs.retrieval(SPEECH[[0, 2, 1]], repeated, ids).as_dict() == expected.as_dict()


def test_order_of_named_images_is_free():
    found = vgs.retrieval(SPEECH, IMAGES[::-1], ["dog", "dog", "cat"], ids_of_images=["cat", "dog"])
    assert found.as_dict() == vgs.retrieval(SPEECH, IMAGES, ["dog", "dog", "cat"]).as_dict()


def test_images_without_captions_are_wrong_answers():
    found = vgs.retrieval(SPEECH[:1], IMAGES, ["dog"], ids_of_images=["dog", "cat"])
    assert (found.n_captions, found.n_images, found.chance["speech_to_image_r1"]) == (1, 2, 50)


def test_cosine():
    louder = np.array([[1.0, 0.0], [3.0, 4.0]])
    found = vgs.retrieval(
        np.array([[1.0, 0.1]]), louder, ["dog"], ids_of_images=["dog", "cat"], similarity="cosine"
    )
    assert found.values["speech_to_image_r1"] == 100
    found = vgs.retrieval(np.array([[1.0, 0.1]]), louder, ["dog"], ids_of_images=["dog", "cat"])
    assert found.values["speech_to_image_r1"] == 0


@pytest.mark.parametrize(
    ("ids", "named", "place"),
    [
        (["dog"], None, "image_ids"),
        (["dog", "dog", "bird"], ["dog", "cat"], "image_ids"),
        (["a", "a", "a"], None, "ids_of_images"),
        (["dog", "dog", "cat"], ["dog"], "ids_of_images"),
    ],
)
def test_ids_that_do_not_fit(ids, named, place):
    with raises_fault("retrieval.ids", place):
        vgs.retrieval(SPEECH, IMAGES, ids, ids_of_images=named)


def test_unknown_similarity():
    with raises_fault("setting.value", "similarity"):
        vgs.retrieval(SPEECH, IMAGES, ["a", "a", "b"], similarity="euclid")


@pytest.mark.parametrize(
    ("speech", "images", "place"),
    [
        (np.empty((0, 2)), IMAGES, "speech"),
        (SPEECH, np.empty((0, 2)), "images"),
        ([], [], "speech"),
        (SPEECH[0], IMAGES, "speech"),
        (SPEECH, IMAGES.astype(int), "images"),
        (SPEECH, np.full((2, 2), np.nan), "images"),
        (SPEECH, np.ones((2, 3)), "images"),
    ],
)
def test_what_are_no_embeddings_is_named(speech, images, place):
    with raises_fault("retrieval.embeddings", place):
        vgs.retrieval(speech, images, ["dog", "dog", "cat"])
