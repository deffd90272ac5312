"""Retrieval ranks against loops, and the traps: ties, duplicates, collapse, several captions, bad numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference import retrieval_loops

from fairseq_vgs.metrics import retrieval


@st.composite
def _pools(draw):
    """Small integer embeddings, so that ties, duplicates and zero vectors are frequent and sums are exact."""
    n_images = draw(st.integers(1, 7))
    n_captions = draw(st.integers(1, 12))
    dims = draw(st.integers(1, 3))
    vector = st.lists(st.integers(-2, 2), min_size=dims, max_size=dims)
    images = draw(st.lists(vector, min_size=n_images, max_size=n_images))
    captions = draw(st.lists(vector, min_size=n_captions, max_size=n_captions))
    image_groups = draw(st.lists(st.integers(0, 4), min_size=n_images, max_size=n_images))
    caption_groups = draw(st.lists(st.sampled_from(image_groups), min_size=n_captions, max_size=n_captions))
    return captions, images, caption_groups, image_groups


@settings(max_examples=200, deadline=None)
@given(pool=_pools(), kind=st.sampled_from(["dot", "cosine"]), chunk_size=st.integers(1, 5))
def test_ranks_equal_loops(pool, kind, chunk_size):
    captions, images, caption_groups, image_groups = pool
    ranks = retrieval.retrieval_ranks(
        torch.tensor(captions, dtype=torch.float32),
        torch.tensor(images, dtype=torch.float32),
        speech_groups=torch.tensor(caption_groups),
        image_groups=torch.tensor(image_groups),
        similarity=kind,
        chunk_size=chunk_size,
    )
    expected = retrieval_loops.best_ranks(
        captions, images, query_groups=caption_groups, gallery_groups=image_groups, kind=kind
    )
    backward = retrieval_loops.best_ranks(
        images, captions, query_groups=image_groups, gallery_groups=caption_groups, kind=kind
    )
    np.testing.assert_array_equal(ranks.speech_to_image, expected)
    np.testing.assert_array_equal(ranks.image_to_speech, backward)
    found = retrieval.recalls(ranks)
    for k in (1, 5, 10):
        assert found[f"speech_to_image_r{k}"] == pytest.approx(retrieval_loops.recall(expected, k))
        assert found[f"image_to_speech_r{k}"] == pytest.approx(retrieval_loops.recall(backward, k))


@pytest.fixture
def small_blocks(monkeypatch):
    """Cut both sides of a few items."""
    monkeypatch.setattr(retrieval, "_GALLERY_BLOCK", 2)
    monkeypatch.setattr(retrieval, "_CHUNK", 3)


@pytest.mark.usefixtures("small_blocks")
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pool=_pools(), kind=st.sampled_from(["dot", "cosine"]))
def test_blocks_of_both_sides_change_nothing(pool, kind):
    captions, images, caption_groups, image_groups = pool
    speech, pictures = (np.array(side, dtype=np.float32) for side in (captions, images))
    groups = {"speech_groups": np.array(caption_groups), "image_groups": np.array(image_groups)}
    cut = retrieval.retrieval_ranks(speech, pictures, **groups, similarity=kind, chunk_size=3)
    nearest = retrieval.nearest_both_ways(speech, pictures, similarity=kind)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval, "_GALLERY_BLOCK", 100)
        whole = retrieval.retrieval_ranks(speech, pictures, **groups, similarity=kind)
        expected = [
            retrieval.top_items(*sides, n_top=1, similarity=kind)
            for sides in ((speech, pictures), (pictures, speech))
        ]
    for name in retrieval.DIRECTIONS:
        np.testing.assert_array_equal(cut.direction(name), whole.direction(name))
    for found, wanted in zip(nearest, expected, strict=True):
        np.testing.assert_array_equal(found.index, wanted.index)
        np.testing.assert_array_equal(found.score, wanted.score)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), chunk_size=st.sampled_from([3, 64, 1024]))
def test_real_numbers_equal_a_full_matrix(seed, chunk_size):
    generator = np.random.default_rng(seed)
    images = generator.standard_normal((40, 16)).astype(np.float32)
    groups = generator.integers(0, 40, size=120)
    speech = images[groups] + generator.standard_normal((120, 16)).astype(np.float32)
    ranks = retrieval.retrieval_ranks(
        speech, images, speech_groups=groups, image_groups=np.arange(40), chunk_size=chunk_size
    )
    scores = speech.astype(np.float64) @ images.astype(np.float64).T
    expected = 1 + (scores > scores[np.arange(120), groups][:, None]).sum(axis=1)
    np.testing.assert_array_equal(ranks.speech_to_image, expected)


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize("n_images", [200, 2100])
def test_collapsed_encoder_gets_the_middle_rank(similarity, n_images):
    point = torch.randn(768, generator=torch.Generator().manual_seed(1))
    groups = torch.arange(n_images)
    ranks = retrieval.retrieval_ranks(
        point.expand(2 * n_images, -1),
        point.expand(n_images, -1),
        speech_groups=groups.repeat(2),
        image_groups=groups,
        similarity=similarity,
    )
    assert np.all(ranks.speech_to_image == (n_images + 1) / 2)
    assert np.all(ranks.image_to_speech == n_images)  # 1 + half of the 2n - 2 wrong captions
    assert max(retrieval.recalls(ranks).values()) == 0.0


def test_any_caption_of_an_image_is_a_hit():
    images = torch.eye(3)
    speech = torch.tensor([[1.0, 0, 0], [0, 0.1, 0], [0, 1.0, 0], [0, 0.1, 0.2]])
    groups = torch.tensor([0, 0, 1, 2])
    ranks = retrieval.retrieval_ranks(speech, images, speech_groups=groups, image_groups=torch.arange(3))
    np.testing.assert_array_equal(ranks.image_to_speech, [1.0, 1.0, 1.0])
    np.testing.assert_array_equal(ranks.speech_to_image, [1.0, 2.5, 1.0, 1.0])


def test_copies_of_a_picture_are_correct_answers_for_each_other():
    images = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    speech = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    apart = retrieval.retrieval_ranks(
        speech, images, speech_groups=torch.tensor([0, 2]), image_groups=torch.tensor([0, 1, 2])
    )
    grouped = retrieval.retrieval_ranks(
        speech, images, speech_groups=torch.tensor([0, 2]), image_groups=torch.tensor([0, 0, 2])
    )
    assert apart.speech_to_image[0] == 1.5
    assert grouped.speech_to_image[0] == 1.0


def test_image_without_caption_is_a_distractor_and_no_query():
    ranks = retrieval.retrieval_ranks(
        torch.tensor([[1.0, 0.0]]),
        torch.eye(2),
        speech_groups=torch.tensor([0]),
        image_groups=torch.arange(2),
    )
    assert np.isnan(ranks.image_to_speech[1])
    assert ranks.direction("image_to_speech").tolist() == [1.0]
    assert retrieval.recall_at(ranks.image_to_speech, 1) == 100.0


def test_zero_vectors_are_scored_zero_under_cosine():
    ranks = retrieval.retrieval_ranks(
        torch.zeros(2, 4),
        torch.eye(2, 4),
        speech_groups=torch.arange(2),
        image_groups=torch.arange(2),
        similarity="cosine",
    )
    np.testing.assert_array_equal(ranks.speech_to_image, [1.5, 1.5])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_accepted(dtype):
    ranks = retrieval.retrieval_ranks(
        torch.eye(3, dtype=dtype),
        torch.eye(3, dtype=dtype),
        speech_groups=torch.arange(3),
        image_groups=torch.arange(3),
    )
    assert ranks.speech_to_image.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("side", ["speech", "image"])
def test_non_finite_embeddings_are_refused(value, side):
    tables = {"speech": torch.randn(4, 3), "image": torch.randn(4, 3)}
    tables[side][2, 1] = value
    with pytest.raises(
        ValueError, match=rf"{side} embeddings: .*NaN or infinity in 1 of 4 rows \(first: row 2\)"
    ):
        retrieval.retrieval_ranks(
            tables["speech"], tables["image"], speech_groups=torch.arange(4), image_groups=torch.arange(4)
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"similarity": "euclidean"}, "similarity: expected one of dot, cosine"),
        ({"chunk_size": 0}, "chunk_size"),
        ({"speech": torch.randn(4)}, "expected a float matrix"),
        ({"speech": torch.randn(4, 5)}, "expected equal dimensions, got 5 and 3"),
        ({"speech": torch.zeros(0, 3), "speech_groups": torch.zeros(0)}, "at least one row"),
        ({"speech_groups": torch.arange(3)}, "one number per embedding"),
        ({"speech_groups": torch.tensor([0, 1, 2, 9])}, "caption 3: expected its image in the pool"),
    ],
)
def test_input_that_does_not_fit_is_refused(change, message):
    arguments = {
        "speech": torch.randn(4, 3),
        "images": torch.randn(4, 3),
        "speech_groups": torch.arange(4),
        "image_groups": torch.arange(4),
        **change,
    }
    with pytest.raises(ValueError, match=message):
        retrieval.retrieval_ranks(arguments.pop("speech"), arguments.pop("images"), **arguments)


@pytest.mark.parametrize("n_gallery", [1, 3, 6])
def test_chance_of_a_hit_equals_the_listing_of_all_orders(n_gallery):
    for n_positives in range(n_gallery + 1):
        for k in range(1, n_gallery + 3):
            expected = retrieval_loops.chance_of_hit(n_gallery, n_positives, k)
            assert retrieval.chance_hit_probability(n_gallery, n_positives, k) == pytest.approx(expected)


def test_chance_on_the_paper_pools():
    images = np.arange(5000)
    chance = retrieval.chance_recalls(np.repeat(images, 5), images)
    assert chance["speech_to_image_r10"] == pytest.approx(0.2)
    assert chance["image_to_speech_r10"] == pytest.approx(0.2, abs=1e-3)
    assert chance["image_to_speech_r10"] < 0.2  # two captions of one image in the top 10 are one hit


def test_chance_equals_random_embeddings():
    generator = np.random.default_rng(0)
    image_groups, speech_groups = np.arange(40) // 2, np.repeat(np.arange(20), 3)
    found = []
    for _ in range(200):
        ranks = retrieval.retrieval_ranks(
            generator.standard_normal((60, 64)).astype(np.float32),
            generator.standard_normal((40, 64)).astype(np.float32),
            speech_groups=speech_groups,
            image_groups=image_groups,
        )
        reciprocal = 1.0 / ranks.direction("image_to_speech")
        found.append([*retrieval.recalls(ranks).values(), 100 * reciprocal.mean()])
    expected = [
        *retrieval.chance_recalls(speech_groups, image_groups).values(),
        100 * retrieval.chance_mean_reciprocal_rank(image_groups, speech_groups),
    ]
    np.testing.assert_allclose(np.mean(found, axis=0), expected, atol=2.0)


def test_chance_median_rank():
    assert retrieval.chance_median_rank(np.arange(9), np.arange(9)) == 5
    assert retrieval.chance_median_rank(np.arange(10), np.arange(10)) == 5
    distribution = retrieval.chance_rank_distribution(np.arange(4), np.repeat(np.arange(4), 3))
    assert distribution.sum() == pytest.approx(1.0)


def test_top_items_are_ordered_and_ties_keep_gallery_order():
    gallery = torch.tensor([[1.0], [3.0], [3.0], [2.0]])
    top = retrieval.top_items(torch.ones(1, 1), gallery, n_top=3)
    assert top.index.tolist() == [[1, 2, 3]]
    assert top.score.tolist() == [[3.0, 3.0, 2.0]]
    assert retrieval.top_items(torch.ones(1, 1), gallery, n_top=9).index.shape == (1, 4)


def test_best_answers_end_with_the_correct_one():
    gallery = torch.tensor([[1.0], [5.0], [3.0], [3.0], [2.0]])
    query = torch.ones(1, 1)

    def answers(*correct: int, n_top: int = 2):
        is_correct = np.isin(np.arange(5), correct)
        found = retrieval.best_answers(query, gallery, is_correct, n_top=n_top)
        return [(one.item, one.rank, one.score, one.is_correct, one.is_below) for one in found]

    best = [(1, 1, 5.0, False, False), (2, 2, 3.0, False, False)]
    assert answers() == best
    assert answers(0) == [*best, (0, 5.0, 1.0, True, True)]
    assert answers(3, n_top=1) == [best[0], (3, 2.5, 3.0, True, True)]  # tied with a wrong one
    assert answers(1, 4) == [(1, 1, 5.0, True, False), best[1]]
    assert len(answers(n_top=99)) == 5
