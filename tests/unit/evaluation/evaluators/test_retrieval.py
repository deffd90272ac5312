"""Retrieval: reported numbers, chance, pools, tables, and the results folder."""

from __future__ import annotations

import numpy as np
import pytest
from support.faults import raises_fault
from support.retrieval_folders import write_results

from fairseq_vgs.evaluation.evaluators import retrieval as report
from fairseq_vgs.evaluation.evaluators.retrieval import Pool, deal_images, fold_ranks, read_retrieval
from fairseq_vgs.evaluation.results import (
    ALWAYS,
    Metric,
    Result,
    ResultsError,
    Scores,
    differences,
    read_table,
)
from fairseq_vgs.metrics import retrieval


def metrics_of(ranks, pool):
    return scores_of(ranks, pool).estimates(seed=1)


def scores_of(ranks, pool):
    return Scores(report.rank_items(ranks, pool), report.reported(report.chance_values(pool)))


def table_of(models):
    content = {"kind": "retrieval", "models": {name: {"title": name} for name in models}}
    found = {
        name: {"metrics": {n: m.as_json() for n, m in metrics.items()}} for name, metrics in models.items()
    }
    return report.Retrieval().table(Result({**content, "models": found}, None))


@pytest.fixture
def pool():
    return report.Pool(speech_groups=np.repeat(np.arange(20), 3), image_groups=np.arange(22))


def _ranks(pool, *, noise):
    generator = np.random.default_rng(1)
    images = generator.standard_normal((22, 8)).astype(np.float32)
    speech = images[pool.speech_groups] + noise * generator.standard_normal((60, 8)).astype(np.float32)
    return retrieval.retrieval_ranks(
        speech, images, speech_groups=pool.speech_groups, image_groups=pool.image_groups
    )


def test_metrics_equal_the_recalls_and_skip_distractors(pool):
    ranks = _ranks(pool, noise=1.5)
    metrics = metrics_of(ranks, pool)
    for name, value in retrieval.recalls(ranks).items():
        assert metrics[name].value.value == pytest.approx(value)
        assert metrics[name].value.low <= value <= metrics[name].value.high
    assert metrics["speech_to_image_r1"].n == 60
    assert metrics["image_to_speech_r1"].n == 20
    assert metrics["speech_to_image_r1"].chance == pytest.approx(100 / 22)
    assert metrics["image_to_speech_r1"].chance == pytest.approx(100 * 3 / 60)
    assert metrics["speech_to_image_median_rank"].chance == 11
    assert metrics == metrics_of(ranks, pool)


def test_differences_are_paired(pool):
    better, worse = _ranks(pool, noise=0.1), _ranks(pool, noise=5.0)

    def gains(first, second):
        own, other = scores_of(first, pool), scores_of(second, pool)
        return differences(own.items, other.items, own.estimates(seed=1), seed=1)

    found = gains(better, worse)
    name = "speech_to_image_r1"
    expected = retrieval.recalls(better)[name] - retrieval.recalls(worse)[name]
    assert found[name].value.value == pytest.approx(expected)
    assert found[name].value.low > 0
    assert set(found) == set(metrics_of(better, pool))
    assert found["image_to_speech_median_rank"].value.high < 0
    assert found["image_to_speech_mrr"].value.low > 0
    assert gains(better, better)[name].value.high == 0


def test_one_image_has_no_interval():
    pool = Pool(np.zeros(2, dtype=np.int64), np.arange(3))
    ranks = retrieval.RetrievalRanks(np.array([1.0, 3.0]), np.array([1.0, np.nan, np.nan]))
    assert str(metrics_of(ranks, pool)["speech_to_image_r1"]) == "50.0"


def test_pool_is_described_in_words(pool):
    words = pool.as_json()
    assert (words["images"], words["captions"], words["image_groups"]) == (22, 60, 22)
    assert words["speech_to_image"] == "60 captions, each ranks 22 images"
    assert "20 images, each ranks 60 captions; a hit if any caption" in str(words["image_to_speech"])


def test_table_is_aligned_and_complete(pool):
    trained = metrics_of(_ranks(pool, noise=0.1), pool)
    fresh = metrics_of(_ranks(pool, noise=9.0), pool)
    lines = table_of({"trained": trained, "untrained": fresh}).split("\n")
    models = ["trained", "untrained", "chance"]
    assert [line.split()[0] for line in lines[1:]] == ["speech", *models, "image", *models]
    assert max(len(line) for line in lines) <= 110
    column = lines[0].index("R@5")
    assert all(line[column - 2 : column] == "  " for line in lines if len(line) > column)
    assert lines[2].split()[1] == f"{trained['speech_to_image_r1'].value.value:.1f}"


def test_a_recall_that_any_order_reaches_says_so_and_no_other_does():
    # 4 images, two captions each: R@5 and R@10 of images are certain, of captions R@10 only
    pool = report.Pool(speech_groups=np.repeat(np.arange(4), 2), image_groups=np.arange(4))
    ranks = retrieval.RetrievalRanks(np.full(8, 4.0), np.full(4, 7.0))  # the worst there can be
    metrics = metrics_of(ranks, pool)
    certain = {name for name, metric in metrics.items() if metric.is_certain}
    assert certain == {"speech_to_image_r5", "speech_to_image_r10", "image_to_speech_r10"}
    for name, metric in metrics.items():
        assert (metric.as_json().get("note") == ALWAYS) == (name in certain)
        assert Metric.from_json(metric.as_json()) == metric
    lines = [line for line in table_of({"model": metrics}).splitlines() if "model" in line]
    assert [line.count("always 100 (k >= pool)") for line in lines] == [2, 1]


def test_seven_of_eight_captions_with_two_right_ones_are_certain():
    pool = report.Pool(speech_groups=np.repeat(np.arange(4), 2), image_groups=np.arange(4))
    assert retrieval.chance_recall(*pool.sides("image_to_speech"), 6) < 100
    assert retrieval.chance_recall(*pool.sides("image_to_speech"), 7) == 100


def test_chance_figures_are_those_beside_the_metrics(pool):
    metrics = metrics_of(_ranks(pool, noise=1.5), pool)
    assert report.chance_values(pool) == {name: metric.chance for name, metric in metrics.items()}


N_IMAGES, N_CAPTIONS = 23, 60


@pytest.fixture
def whole():
    """Images 0 and 1 are copies of each other; the last three have no captions."""
    groups = np.arange(N_IMAGES)
    groups[1] = 0
    return Pool(groups[np.arange(N_CAPTIONS) % (N_IMAGES - 3)], groups)


def _embeddings(whole, *, noise=1.5):
    generator = np.random.default_rng(3)
    images = generator.standard_normal((N_IMAGES, 6)).astype(np.float32)
    noisy = images[np.arange(N_CAPTIONS) % (N_IMAGES - 3)]
    return (noisy + noise * generator.standard_normal(noisy.shape)).astype(np.float32), images


def test_pools_are_disjoint_of_equal_size_and_keep_groups_together(whole):
    pools = deal_images(whole, 4, seed=1)
    assert len(pools.image_pools) == N_IMAGES
    assert set(pools.image_pools) == set(range(4))
    assert pools.image_pools[0] == pools.image_pools[1]
    sizes = np.bincount(pools.image_pools[1:])  # groups: the copy is no further one
    assert sizes.max() - sizes.min() <= 1
    for group, pool in zip(whole.speech_groups, pools.speech_pools, strict=True):
        assert set(pools.image_pools[whole.image_groups == group]) == {pool}
    assert np.array_equal(pools.image_pools, deal_images(whole, 4, seed=1).image_pools)
    assert not np.array_equal(pools.image_pools, deal_images(whole, 4, seed=2).image_pools)


def test_ranks_are_counted_within_pools(whole):
    speech, images = _embeddings(whole)
    pools = deal_images(whole, 3, seed=1)
    ranks = fold_ranks(speech, images, pools)
    for row, group in enumerate(whole.speech_groups):
        members = np.flatnonzero(pools.image_pools == pools.speech_pools[row])
        scores = images[members].astype(float) @ speech[row].astype(float)
        correct = whole.image_groups[members] == group
        assert ranks.speech_to_image[row] == 1 + np.sum(scores[~correct] > scores[correct].max())
    for column, group in enumerate(whole.image_groups):
        members = np.flatnonzero(pools.speech_pools == pools.image_pools[column])
        scores = speech[members].astype(float) @ images[column].astype(float)
        correct = whole.speech_groups[members] == group
        if correct.any():
            expected = 1 + np.sum(scores[~correct] > scores[correct].max())
            assert ranks.image_to_speech[column] == expected
        else:
            assert np.isnan(ranks.image_to_speech[column])


def test_metrics_and_chance(whole):
    speech, images = _embeddings(whole)
    pools = deal_images(whole, 3, seed=1)
    ranks = fold_ranks(speech, images, pools)
    items, reported = report.fold_scores(ranks, pools)
    found = Scores(items, reported).estimates(seed=1)
    metrics = {name.partition(", within")[0]: metric for name, metric in found.items()}
    for name, value in retrieval.recalls(ranks).items():
        assert metrics[name].value.value == pytest.approx(value)
        assert metrics[name].value.low <= value <= metrics[name].value.high
    positives = np.array([np.sum(whole.image_groups == group) for group in whole.speech_groups])
    gallery = np.bincount(pools.image_pools)[pools.speech_pools]
    assert metrics["speech_to_image_r1"].chance == pytest.approx(100 * np.mean(positives / gallery))
    assert metrics["speech_to_image_r1"].n == N_CAPTIONS
    assert metrics["image_to_speech_r1"].n == N_IMAGES - 3


def test_sizes_are_stated(whole):
    pools = deal_images(whole, 3, seed=5)
    content = pools.as_json()
    assert (sum(content["images"]), sum(content["captions"])) == (N_IMAGES, N_CAPTIONS)
    assert (content["n"], content["seed"]) == (3, 5)
    low, high = min(content["images"]), max(content["images"])
    sizes = f"{low}-{high}" if low < high else f"{low}"
    assert report.within_pools(content).startswith(f", within 3 disjoint pools of {sizes} images and ")


def test_one_image_cannot_be_dealt():
    one = Pool(np.zeros(3, dtype=np.int64), np.arange(2))
    with raises_fault("setting.value", "folds") as caught:
        deal_images(one, 2, seed=1)
    assert "1; leave --folds out" in str(caught.value)


@pytest.mark.parametrize("n_pools", [-1, 0, 1, N_IMAGES - 3])
def test_every_pool_has_queries(whole, n_pools):
    with raises_fault("setting.value", "folds"):
        deal_images(whole, n_pools, seed=1)
    most = deal_images(whole, N_IMAGES - 4, seed=1)
    assert set(most.speech_pools) == set(range(N_IMAGES - 4))


def test_round_trip(tmp_path):
    items = write_results(tmp_path)
    metrics, found = read_retrieval(tmp_path)
    assert found.audio_ids == tuple(items.audio_ids)
    assert found.image_ids == tuple(items.image_ids)
    np.testing.assert_array_equal(found.caption_image, items.caption_image)
    np.testing.assert_array_equal(found.pool.speech_groups, items.pool.speech_groups)
    np.testing.assert_array_equal(found.speech, items.speech)
    np.testing.assert_array_equal(found.ranks.speech_to_image, items.ranks.speech_to_image)
    np.testing.assert_array_equal(found.ranks.image_to_speech, items.ranks.image_to_speech)
    assert metrics["split"] == "test"


def test_tables_hold_the_top_answer_and_the_baseline(tmp_path):
    items = write_results(tmp_path)
    rows = read_table(tmp_path / "speech_to_image.csv")
    scores = items.speech.astype(np.float64) @ items.images.astype(np.float64).T
    for number, row in enumerate(rows):
        assert row["top_image_id"] == items.image_ids[int(np.argmax(scores[number]))]
        assert float(row["top_score"]) == pytest.approx(scores[number].max(), rel=1e-5)
        assert row["image_id"] == items.image_ids[items.caption_image[number]]
        assert float(row["rank"]) == items.ranks.speech_to_image[number]
        assert float(row["untrained_rank"]) >= 1
    assert read_table(tmp_path / "image_to_speech.csv")[-1]["rank"] == ""  # no captions


@pytest.mark.parametrize("name", [*report.Retrieval.files, "metrics.json"])
def test_half_a_folder_is_refused(tmp_path, name):
    write_results(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ResultsError, match=name):
        read_retrieval(tmp_path)


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    items = write_results(tmp_path)
    np.save(tmp_path / "speech_embeddings.npy", items.speech[:-1])
    with raises_fault("results.broken", "speech_embeddings.npy", error=ResultsError):
        read_retrieval(tmp_path)
    write_results(tmp_path, force=True)
    (tmp_path / "image_to_speech.csv").write_text("image_id,rank\n" + "x,1\n" * len(items.image_ids))
    with raises_fault("results.broken", error=ResultsError):
        read_retrieval(tmp_path)
