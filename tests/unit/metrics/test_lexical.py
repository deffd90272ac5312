from __future__ import annotations

import numpy as np
import pytest
import torch
from reference.lexical_loops import cosine, lexical_recall, warped
from support.faults import raises_fault

from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.metrics import lexical

WORDS = [f"word{number % 5}" for number in range(20)] + ["word0", "word3", "alone"]


def tokens(seed: int, most: int = 7) -> list[torch.Tensor]:
    """Noisy tokens of a prototype for each word: some neighbours are right and some are wrong."""
    draw = np.random.default_rng(seed)
    prototypes = {word: draw.normal(size=(most, 3)) for word in sorted(set(WORDS))}
    return [
        torch.from_numpy(prototypes[word][: draw.integers(2, most + 1)] + draw.normal(size=3))
        for word in WORDS
    ]


def test_a_case_by_hand() -> None:
    # Folds: a0 b0 | a1 b1 | a2 b2; k = 2. Angles in degrees; a token's pool leaves out its own fold.
    angles = {"a0": 0, "b0": 90, "a1": 10, "b1": 12, "a2": 20, "b2": 80}
    words = [name[0] for name in angles]
    radians = torch.deg2rad(torch.tensor([float(angle) for angle in angles.values()]))
    result = lexical.vector_recall(torch.stack([radians.cos(), radians.sin()], dim=1), words)
    # a0: a1 b1 -> 1/2; b0: b2 a2 -> 1/2; a1: a0 a2 -> 1; b1: a2 a0 -> 0; a2: b1 a1 -> 1/2; b2: b0 b1 -> 1
    assert result.words == tuple("ababab")
    np.testing.assert_allclose(result.recall, [0.5, 0.5, 1, 0, 0.5, 1])
    assert result.by_word == pytest.approx({"a": 2 / 3, "b": 0.5})
    assert result.overall == pytest.approx(7 / 12)
    assert result.chance == pytest.approx(0.5)


@pytest.mark.parametrize("seed", range(4))
def test_vectors_equal_the_loops(seed: int) -> None:
    means = torch.stack([frames.mean(0) for frames in tokens(seed)])
    result = lexical.vector_recall(means, WORDS)
    assert result.overall == pytest.approx(lexical_recall(means.tolist(), WORDS, cosine), abs=1e-12)
    assert 0.05 < result.overall < 0.95
    assert result.n_single == 1


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("cells", [50, 4_000_000])
def test_frames_equal_the_loops(seed: int, cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lexical, "_MAX_CELLS", cells)
    frames = tokens(seed)
    result = lexical.frame_recall(frames, WORDS)
    expected = lexical_recall([token.tolist() for token in frames], WORDS, warped)
    assert result.overall == pytest.approx(expected, abs=1e-12)
    assert 0.05 < result.overall < 0.95


def test_warping_equals_the_loops() -> None:
    query, *pool = tokens(5)
    padded = torch.nn.utils.rnn.pad_sequence(pool, batch_first=True, padding_value=9.0)
    lengths = torch.tensor([len(frames) for frames in pool])
    found = lexical.warped_distance(query, padded, lengths)
    expected = [warped(query.tolist(), frames.tolist()) for frames in pool]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


def test_a_collapsed_encoder_is_at_chance() -> None:
    result = lexical.vector_recall(torch.ones(len(WORDS), 4), WORDS)
    assert result.overall == pytest.approx(result.chance, abs=1e-12)
    frames = lexical.frame_recall([torch.ones(3, 2)] * len(WORDS), WORDS)
    assert frames.overall == pytest.approx(frames.chance, abs=1e-12)


@pytest.mark.parametrize(("n_tokens", "n_dims"), [(333, 64), (505, 100), (501, 257), (260, 768)])
def test_a_collapsed_encoder_is_at_chance_whatever_the_blocks_of_a_product(
    n_tokens: int, n_dims: int
) -> None:
    draw = torch.Generator().manual_seed(n_dims)
    vector = torch.randn(1, n_dims, generator=draw, dtype=torch.float64)
    # as means over frames that are equal but for the last digits of float32
    noise = torch.randn(n_tokens, n_dims, generator=draw, dtype=torch.float64)
    vectors = vector * (1.0 + 1e-7 * noise)
    for words in (
        [f"word{number % 50}" for number in range(n_tokens)],
        [f"word{number // 10}" for number in range(n_tokens)],
    ):
        for embeddings in (vector.repeat(n_tokens, 1), vectors):
            result = lexical.vector_recall(embeddings, words)
            assert result.overall == pytest.approx(result.chance, abs=1e-12)


def test_equal_distances_of_frames_tie_however_they_are_summed() -> None:
    """Units, written as one-hot frames: distances are multiples of the square root of two."""
    draw = np.random.default_rng(2)
    words = [f"word{number % 6}" for number in range(48)]
    units = [draw.integers(3, size=draw.integers(3, 9)) for _ in words]
    one_hot = [torch.eye(3, dtype=torch.float64)[torch.from_numpy(token)] for token in units]
    scaled = [[[float(number == unit) for number in range(3)] for unit in token] for token in units]

    def whole(first: list[list[float]], second: list[list[float]]) -> float:
        return round(warped(first, second) / np.sqrt(2))

    expected = lexical_recall(scaled, words, whole)
    assert lexical.frame_recall(one_hot, words).overall == pytest.approx(expected, abs=1e-12)


def test_frames_of_nan_are_passed_over() -> None:
    frames = tokens(1)
    gap = torch.full((1, 3), torch.nan, dtype=torch.float64)
    holed = [torch.cat([gap, token[:1], gap, token[1:]]) for token in frames]
    np.testing.assert_array_equal(
        lexical.frame_recall(holed, WORDS).recall, lexical.frame_recall(frames, WORDS).recall
    )


def test_bad_tokens_are_all_named() -> None:
    frames = tokens(1)
    frames[2] = torch.full((2, 3), torch.nan)
    frames[4] = torch.full((2, 3), torch.inf)
    with pytest.raises(FaultError) as caught:
        lexical.frame_recall(frames, WORDS)
    assert [item.place for item in caught.value.faults] == ["token 2 (word2)", "token 4 (word4)"]
    with raises_fault("recording.word", "lexical test") as caught:
        lexical.vector_recall(torch.ones(2, 3), ["a", "b"])
    assert "2 tokens of 2 words" in str(caught.value)
