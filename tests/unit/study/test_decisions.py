"""What an interval decides, checked against scipy, by hand and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fairseq_vgs.study.decisions import (
    CONTRADICTED,
    EQUIVALENT,
    SUPPORTED,
    UNDECIDED,
    decide,
    half_width,
    holm,
    p_equivalent,
    p_value,
    seeds_for,
    seeds_needed,
)
from fairseq_vgs.study.statistics import Estimate, mean_over_seeds

VALUES = [3.1, 5.2, -0.4, 4.4, 2.2]


def found(values, item_se=0.0) -> Estimate:
    draws = np.array([-1.0, 1.0]) * item_se / math.sqrt(2)  # their standard deviation is item_se
    return mean_over_seeds(dict(enumerate(values)), draws)


def test_p_value_without_noise_of_items_is_that_of_the_paired_t_test():
    assert p_value(found(VALUES)) == pytest.approx(stats.ttest_1samp(VALUES, 0).pvalue)


def test_p_value_of_items_alone_is_that_of_a_normal_test():
    assert p_value(found([2.0, 2.0], 1.0)) == pytest.approx(2 * stats.norm.sf(2.0), rel=1e-6)


def test_two_one_sided_tests():
    values, margin = [0.3, -0.2, 0.4, 0.1], 1.0
    one = max(
        stats.ttest_1samp(values, margin, alternative="less").pvalue,
        stats.ttest_1samp(values, -margin, alternative="greater").pvalue,
    )
    assert p_equivalent(found(values), margin) == pytest.approx(one, rel=1e-6)
    assert p_equivalent(found([1.5, 1.4]), margin) == 1.0


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=8), st.floats(0, 3))
def test_interval_and_p_value_agree(values, item_se):
    one = found(values, item_se)
    p = p_value(one)
    if abs(p - 0.05) > 1e-4:
        assert (p < 0.05) == (one.low > 0 or one.high < 0)


def test_one_seed_decides_nothing():
    assert p_value(found([9.0], 0.1)) == 1.0
    assert seeds_needed(found([9.0], 0.1), 2.0) is None


def test_seeds_that_agree_and_differ_from_0_decide():
    assert decide(found([3.0, 3.0]), p_value(found([3.0, 3.0])), None) == SUPPORTED


def test_holm_by_hand():
    # sorted 0.01, 0.02, 0.04 times 3, 2, 1
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([]) == []


def test_answers():
    assert decide(found(VALUES), 0.01, 2.0) == SUPPORTED
    assert decide(found([-v for v in VALUES]), 0.01, 2.0) == CONTRADICTED
    assert decide(found(VALUES), 0.2, 2.0, 0.04) == EQUIVALENT
    assert decide(found(VALUES), 0.2, None, 0.04) == UNDECIDED
    assert decide(found(VALUES), 0.2, 2.0, 0.06) == UNDECIDED


def test_more_seeds_would_decide_with_the_same_deviation():
    one = found([5.0, -1.0, 2.0])  # mean 2, deviation 3
    n = seeds_needed(one, None)
    assert half_width(3.0, 0.0, n) < 2.0 <= half_width(3.0, 0.0, n - 1)
    assert seeds_needed(one, None, n_questions=3) > n


def test_items_may_keep_a_question_open_whatever_the_seeds():
    assert seeds_needed(found([1.0, 1.2, 0.8], 2.0), None) is None


def test_a_small_difference_is_decided_by_the_margin():
    one = found([0.5, -0.5, 0.3, -0.3])  # mean 0
    n = seeds_needed(one, 1.0)
    assert half_width(one.seed_sd, 0.0, n, 0.1) < 1.0


def test_seeds_for_an_interval():
    n = seeds_for(4.0, 6.0)
    assert half_width(6.0, 0.0, n) <= 4.0 < half_width(6.0, 0.0, n - 1)
    assert seeds_for(1.0, 0.5, item_se=1.0) is None


def test_five_percent_of_studies_without_a_difference_find_one():
    random = np.random.default_rng(1)
    found_one = [p_value(found(random.normal(0, 1, 6))) <= 0.05 for _ in range(1000)]
    assert 0.03 < np.mean(found_one) < 0.07
