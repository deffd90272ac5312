"""Reported figures: directions, chance, intervals, the table."""

from __future__ import annotations

import numpy as np
import pytest

from fairseq_vgs.evaluation import retrieval_figures as report
from fairseq_vgs.evaluation.metrics import retrieval
from fairseq_vgs.evaluation.results import ALWAYS, Metric


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
    metrics = report.retrieval_metrics(ranks, pool, seed=1, n_resamples=200)
    for name, value in retrieval.recalls(ranks).items():
        assert metrics[name].value.value == pytest.approx(value)
        assert metrics[name].value.low <= value <= metrics[name].value.high
    assert metrics["speech_to_image_r1"].n == 60
    assert metrics["image_to_speech_r1"].n == 20
    assert metrics["speech_to_image_r1"].chance == pytest.approx(100 / 22)
    assert metrics["image_to_speech_r1"].chance == pytest.approx(100 * 3 / 60)
    assert metrics["speech_to_image_median_rank"].chance == 11
    assert metrics == report.retrieval_metrics(ranks, pool, seed=1, n_resamples=200)


def test_differences_are_paired(pool):
    better, worse = _ranks(pool, noise=0.1), _ranks(pool, noise=5.0)
    differences = report.rank_differences(better, worse, pool, seed=1, n_resamples=200)
    name = "speech_to_image_r1"
    expected = retrieval.recalls(better)[name] - retrieval.recalls(worse)[name]
    assert differences[name].value.value == pytest.approx(expected)
    assert differences[name].value.low > 0
    assert set(differences) == set(report.retrieval_metrics(better, pool, seed=1, n_resamples=2))
    assert differences["image_to_speech_median_rank"].value.high < 0
    assert differences["image_to_speech_mrr"].value.low > 0
    assert report.rank_differences(better, better, pool, seed=1, n_resamples=50)[name].value.high == 0


def test_one_image_has_no_interval():
    ranks = np.array([1.0, 7.0])
    groups = np.zeros(2, dtype=np.int64)
    metrics = report.query_metrics(ranks, groups, direction="speech_to_image", chance={}, seed=1)
    assert report.percentage(metrics["speech_to_image_r1"]) == "50.0"


def test_pool_is_described_in_words(pool):
    words = pool.as_json()
    assert (words["images"], words["captions"], words["image_groups"]) == (22, 60, 22)
    assert words["speech_to_image"] == "60 captions, each ranks 22 images"
    assert "20 images, each ranks 60 captions; a hit if any caption" in str(words["image_to_speech"])


def test_table_is_aligned_and_complete(pool):
    trained = report.retrieval_metrics(_ranks(pool, noise=0.1), pool, seed=1, n_resamples=100)
    fresh = report.retrieval_metrics(_ranks(pool, noise=9.0), pool, seed=1, n_resamples=100)
    lines = report.format_table({"trained": trained, "untrained": fresh}).split("\n")
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
    metrics = report.retrieval_metrics(ranks, pool, seed=1, n_resamples=20)
    certain = {name for name, metric in metrics.items() if metric.is_certain}
    assert certain == {"speech_to_image_r5", "speech_to_image_r10", "image_to_speech_r10"}
    for name, metric in metrics.items():
        assert (metric.as_json().get("note") == ALWAYS) == (name in certain)
        assert Metric.from_json(metric.as_json()) == metric
    lines = [line for line in report.format_table({"model": metrics}).splitlines() if "model" in line]
    assert [line.count("always 100 (k >= pool)") for line in lines] == [2, 1]


def test_seven_of_eight_captions_with_two_right_ones_are_certain():
    pool = report.Pool(speech_groups=np.repeat(np.arange(4), 2), image_groups=np.arange(4))
    assert retrieval.chance_recall(*pool.sides("image_to_speech"), 6) < 100
    assert retrieval.chance_recall(*pool.sides("image_to_speech"), 7) == 100


def test_chance_figures_are_those_beside_the_metrics(pool):
    metrics = report.retrieval_metrics(_ranks(pool, noise=1.5), pool, seed=1, n_resamples=20)
    assert report.chance_figures(pool) == {name: metric.chance for name, metric in metrics.items()}
