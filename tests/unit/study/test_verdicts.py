"""The paper's findings: each answer, and why there is none."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from support.study_results import study_results, with_across, without

from fairseq_vgs.configs.scenarios import scenario_title
from fairseq_vgs.study.decisions import CONTRADICTED, EQUIVALENT, SUPPORTED, UNDECIDED
from fairseq_vgs.study.questions import FINDINGS
from fairseq_vgs.study.statistics import MEASURES, Sampler
from fairseq_vgs.study.verdicts import NOT_DECIDABLE, judge, not_run

SCENARIOS = ("w2v2", "vgs", "vgs_plus", "w2v2_then_vgs", "vgs_then_w2v2", "vgs_plus_then_w2v2")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    found = study_results(tmp_path_factory.mktemp("items"), scenarios=SCENARIOS, evaluate_every=40)
    return replace(found, baselines={})  # MFCC would be better than all models


def verdicts(results):
    return {verdict.question.name: verdict for verdict in judge(results, Sampler(n_resamples=200))}


def exchanged(results, one, other):
    """The same numbers, had the two scenarios ended the other way round."""
    points = [
        replace(point, scenario=other if point.scenario == one else one)
        if point.scenario in (one, other)
        else point
        for point in results.points
    ]
    return replace(results, points=tuple(points))


def test_first_and_third_finding_hold(results):
    found = verdicts(results)
    for name in ("sequential_beats_simultaneous", "vgs_transfers_better"):
        assert found[name].answer == SUPPORTED
        assert found[name].difference.low > 0
        assert found[name].remarks == ()
        assert ". Supported. " in found[name].sentence


def test_exchanged_scenarios_turn_the_answer_round(results):
    before = verdicts(results)
    for finding in (FINDINGS[0], FINDINGS[2]):
        after = verdicts(exchanged(results, finding.better, finding.worse))[finding.name]
        assert after.answer == CONTRADICTED
        assert after.difference.high < 0
        assert after.difference.value == pytest.approx(-before[finding.name].difference.value)


def test_abx_difference_is_the_other_way_round_since_less_is_better(results):
    finals = {name: results.finals(name) for name in ("w2v2", "vgs")}
    expected = [finals["w2v2"][seed].best_abx - finals["vgs"][seed].best_abx for seed in (1, 2, 3)]
    found = verdicts(results)["vgs_transfers_better"]
    assert list(found.difference.per_seed.values()) == pytest.approx(expected)
    assert found.what.endswith("W2V2 minus VGS")


def test_equal_models_cannot_be_told_apart(results):
    """The points of VGS+ stand for (W2V2, VGS) too."""
    end = results.finals("vgs_plus")
    points = [point for point in results.points if point.scenario != "w2v2_then_vgs"]
    points += [replace(point, scenario="w2v2_then_vgs", phase="second") for point in end.values()]
    found = verdicts(replace(results, points=tuple(points)))["sequential_beats_simultaneous"]
    assert found.answer == EQUIVALENT
    assert (found.difference.value, found.difference.low, found.difference.high) == (0, 0, 0)
    assert found.remarks == ()


def test_forgetting_shows_what_was_lost_since_the_first_phase(results):
    found = verdicts(results)["simultaneous_keeps_more"]
    lost = {line.label: line.estimate for line in found.lines if "lost since" in line.label}
    assert len(lost) == 2
    for scenario, label in (("vgs_then_w2v2", "(VGS, W2V2)"), ("vgs_plus_then_w2v2", "(VGS+, W2V2)")):
        estimate = lost[f"{label}, lost since its first phase"]
        for seed, value in estimate.per_seed.items():
            start, end = (
                next(p for p in results.points if (p.scenario, p.seed, p.update) == (scenario, seed, update))
                for update in (results.settings.first_updates, results.settings.updates_of(scenario))
            )
            parts = MEASURES["r10"].parts
            assert value == pytest.approx(sum(start.retrieval[p] - end.retrieval[p] for p in parts) / 2)


def test_keeping_shows_what_was_learned_and_the_difference_of_losses(results):
    found = verdicts(results)["simultaneous_keeps_more"]
    lines = {line.label: line.estimate for line in found.lines}
    learned = lines["(VGS, W2V2), after its first phase"]
    finals = results.finals("vgs_then_w2v2")
    lost = lines["(VGS, W2V2), lost since its first phase"]
    parts = MEASURES["r10"].parts
    for seed, value in learned.per_seed.items():
        end = sum(finals[seed].retrieval[part] for part in parts) / 2
        assert value - end == pytest.approx(lost.per_seed[seed])
    more = lines["difference in what was lost: (VGS+, W2V2) minus (VGS, W2V2)"]
    ours = lines["(VGS+, W2V2), lost since its first phase"]
    assert more.value == pytest.approx(ours.value - lost.value)
    assert more.value < 0  # the invented study keeps more after VGS+
    assert found.difference.value > 0
    assert found.answer == SUPPORTED
    assert found.remarks == ()  # and nothing about what was learned


@pytest.mark.parametrize("scenario", ["vgs_then_w2v2", "vgs_plus_then_w2v2"])
def test_nothing_is_kept_where_nothing_was_learned(results, scenario):
    """The untrained model's numbers stand for those after the first phase."""
    first = results.settings.first_updates
    points = tuple(
        replace(point, items=results.untrained[point.seed].items)
        if (point.scenario, point.update) == (scenario, first)
        else point
        for point in results.points
    )
    found = verdicts(replace(results, points=points))["simultaneous_keeps_more"]
    assert found.answer == UNDECIDED
    assert len(found.remarks) == 1
    assert "had nothing to lose" in found.remarks[0]
    assert "not above chance, 20.0." in found.remarks[0]


def test_nothing_is_kept_where_the_first_phase_was_not_measured(results):
    first = results.settings.first_updates
    points = tuple(
        replace(point, items=None)
        if (point.scenario, point.seed, point.update) == ("vgs_then_w2v2", 2, first)
        else point
        for point in results.points
    )
    found = verdicts(replace(results, points=points))["simultaneous_keeps_more"]
    assert found.answer == UNDECIDED
    assert "Not measured" in found.remarks[0]
    assert "(VGS, W2V2) after its first phase" in found.remarks[0]
    assert "(seeds 2)" in found.remarks[0]


def test_second_finding_is_decided_by_what_is_left_and_claims_no_more(results):
    found = verdicts(results)["simultaneous_keeps_more"]
    assert found.question.claim.endswith("retrieves better than one that was trained on VGS alone.")
    finals = {name: results.finals(name) for name in ("vgs_plus_then_w2v2", "vgs_then_w2v2")}
    recalls = {
        name: [sum(point.retrieval[part] for part in MEASURES["r10"].parts) / 2 for point in points.values()]
        for name, points in finals.items()
    }
    expected = [a - b for a, b in zip(*recalls.values(), strict=True)]
    assert list(found.difference.per_seed.values()) == pytest.approx(expected)


@pytest.mark.parametrize("scenario", ["vgs", "w2v2"])
def test_phones_that_were_not_learned_do_not_transfer(results, scenario):
    """The untrained model's numbers stand for those at the end of training."""
    end = results.settings.updates_of(scenario)
    points = tuple(
        replace(point, items=results.untrained[point.seed].items)
        if (point.scenario, point.update) == (scenario, end)
        else point
        for point in results.points
    )
    found = verdicts(replace(results, points=points))["vgs_transfers_better"]
    assert found.answer == NOT_DECIDABLE
    assert found.difference.low > 0 or found.difference.high < 0  # it would have been decided
    assert len(found.remarks) == 1
    assert found.remarks[0].startswith(f"{scenario_title(scenario)} has not learned phones: ")


def test_phones_beside_an_untrained_model_that_was_not_measured(results):
    untrained = {seed: point for seed, point in results.untrained.items() if seed != 2}
    found = verdicts(replace(results, untrained=untrained))["vgs_transfers_better"]
    assert found.answer == NOT_DECIDABLE
    assert [remark.endswith("(seeds 2).") for remark in found.remarks] == [True, True]


def test_what_was_learned_of_phones_is_shown(results):
    found = verdicts(results)["vgs_transfers_better"]
    lines = {line.label: line.estimate for line in found.lines}
    finals = results.finals("vgs")
    assert lines["VGS minus untrained"].per_seed == pytest.approx(
        {seed: point.best_abx - results.untrained[seed].best_abx for seed, point in finals.items()}
    )
    assert "difference in ABX error of the best layer, across speaker" not in lines


def test_phones_across_speakers_are_shown_and_decide_nothing(tmp_path):
    results = study_results(tmp_path, scenarios=("vgs", "w2v2"), evaluate_every=280, probes=False)
    before, after = (verdicts(found)["vgs_transfers_better"] for found in (results, with_across(results)))
    lines = {line.label: line.estimate for line in after.lines}
    across = lines["difference in ABX error of the best layer, across speaker"]
    assert (after.answer, after.difference) == (before.answer, before.difference)
    assert across.value == pytest.approx(1.2 * after.difference.value)


def test_findings_outside_the_study_have_no_verdict_but_what_they_need(tmp_path):
    results = study_results(tmp_path, seeds=(1,), scenarios=("w2v2", "vgs"), evaluate_every=40)
    found = verdicts(results)
    assert list(found) == ["vgs_transfers_better"]
    assert [text.rpartition(". ")[2] for text in not_run(results.settings)] == [
        "Needs (W2V2, VGS) and VGS+.",
        "Needs (VGS+, W2V2) and (VGS, W2V2).",
    ]
    no_phones = replace(results, settings=replace(results.settings, abx=None))
    assert verdicts(no_phones) == {}
    assert not_run(no_phones.settings)[2].endswith("Needs phone discrimination (the key abx).")
    assert found["vgs_transfers_better"].remarks == ("One seed: the variation between seeds is unknown.",)


def test_unfinished_seed_leaves_the_answer_open_however_clear_the_rest(tmp_path):
    results = study_results(tmp_path, seeds=(1, 2, 3, 4), scenarios=("w2v2_then_vgs", "vgs_plus"))
    found = verdicts(without(results, "w2v2_then_vgs", 2, beyond=240))["sequential_beats_simultaneous"]
    assert found.answer == UNDECIDED
    assert found.difference.low > 0
    assert list(found.difference.per_seed) == [1, 3, 4]
    assert found.remarks == ("(W2V2, VGS) has not finished: seed 2.",)


def test_a_small_pool_is_judged_by_a_recall_that_suits_it(results):
    small = {name: 4 * value for name, value in results.chance.items()}  # as of 12 pictures
    found = verdicts(replace(results, chance=small))["sequential_beats_simultaneous"]
    assert found.what.startswith("R@1, ")
    assert [line.measure.name for line in found.lines] == ["r1", "r1", "mrr"]


def test_one_seed_is_said_to_be_one(tmp_path):
    results = study_results(tmp_path, seeds=(1,), scenarios=SCENARIOS)
    found = verdicts(results)["vgs_transfers_better"]
    assert found.difference.low > 0
    assert found.answer == UNDECIDED
    assert found.remarks == ("One seed: the variation between seeds is unknown.",)
    assert "percentage points [+" in found.sentence  # the number is still there
    assert found.as_json()["difference"]["seeds_measured"] is False


def test_models_without_abx(results):
    points = tuple(replace(point, items=None) if point.seed == 3 else point for point in results.points)
    found = verdicts(replace(results, points=points))["vgs_transfers_better"]
    assert found.answer == UNDECIDED
    assert found.remarks == ("Not measured: ABX error of the best layer, within speaker (seeds 3).",)


def test_json_is_plain_and_complete(results):
    for verdict in judge(results, Sampler(n_resamples=50)):
        data = json.loads(json.dumps(verdict.as_json(), allow_nan=False))
        assert data["verdict"] in (SUPPORTED, CONTRADICTED, EQUIVALENT, UNDECIDED)
        interval = data["difference"]["interval"]
        assert interval["low"] <= data["difference"]["value"] <= interval["high"]
        assert data["difference"]["n_seeds"] == 3
        assert data["sentence"].startswith(data["claim"])
