"""Tables of a study: means, intervals, seeds, dashes."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
from support.study_results import (
    LAYERS,
    N_IMAGES,
    N_PHONES,
    six_pictures,
    study_results,
    with_across,
    with_lexical,
    without,
)

from fairseq_vgs.study.statistics import Sampler
from fairseq_vgs.study.tables import (
    NOTHING,
    PHONES,
    POINT_COLUMNS,
    RETRIEVAL_WRITTEN,
    WORDS,
    abx_table,
    csv_rows,
    latex,
    lexical_table,
    markdown,
    point_rows,
    retrieval_table,
)

SCENARIOS = ("w2v2", "vgs", "w2v2_then_vgs")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return study_results(tmp_path_factory.mktemp("items"), seeds=(1, 2), scenarios=SCENARIOS)


@pytest.fixture
def sampler():
    return Sampler(n_resamples=50)


def test_means_are_those_of_the_points(results, sampler):
    table = retrieval_table(results, sampler)
    assert [row.name for row in table.rows] == [*SCENARIOS, "untrained", "chance"]
    for row in table.rows[:3]:
        finals = results.finals(row.name)
        for measure in table.measures:
            found = row.estimates[measure.name]
            assert found.per_seed == pytest.approx(
                {seed: p.retrieval[measure.name] for seed, p in finals.items()}
            )
            assert found.value == pytest.approx(sum(found.per_seed.values()) / 2)
            assert found.low <= found.value <= found.high
    assert table.rows[-1].constants["speech_to_image_r10"] == 20.0


def test_abx_table_has_best_layers_baselines_and_chance(results, sampler):
    table = abx_table(results, sampler)
    assert [row.name for row in table.rows] == [*SCENARIOS, "untrained", "mfcc", "chance"]
    for row in table.rows[:4]:
        points = results.finals(row.name) if row.is_scenario else results.untrained
        assert row.estimates["abx"].per_seed == pytest.approx({s: p.best_abx for s, p in points.items()})
        assert row.layers == {"abx": {seed: point.best_layer("abx") for seed, point in points.items()}}
        assert set(row.layers["abx"].values()) <= set(LAYERS)
    assert table.rows[4].cell(PHONES[0]) == "7.2"
    assert table.rows[5].cell(PHONES[0]) == "50.0"
    best = min(table.rows[:3], key=lambda row: row.estimates["abx"].value)
    assert table.is_best(best, PHONES[0])


def unpadded(text):
    return re.sub(" +", " ", text)


def test_unfinished_scenarios_are_dashes(results, sampler):
    half = without(without(results, "vgs", 2, beyond=240), "w2v2", 1)
    nothing = without(half, "w2v2", 2, beyond=40)
    table = retrieval_table(nothing, sampler)
    assert [row.seeds_text for row in table.rows] == ["0 of 2", "1 of 2", "2", "2", ""]
    assert all(table.rows[0].cell(measure) == NOTHING for measure in table.measures)
    assert f"| W2V2 |{f' {NOTHING} |' * 6} 0 of 2 |" in unpadded(markdown(table))
    assert "W2V2 & -- & -- & -- & --" in unpadded(latex(table))
    words = "With one seed, the interval does not include the variation between seeds."
    assert words in table.note
    assert words not in retrieval_table(results, sampler).note
    assert f"seeds and {N_IMAGES} pictures" in table.note
    assert f"{N_PHONES} phones" in abx_table(nothing, sampler).note


def test_csv_holds_every_measure_and_seed(results, sampler):
    header, rows = csv_rows(retrieval_table(results, sampler), RETRIEVAL_WRITTEN, results.settings.seeds)
    records = [dict(zip(header, row, strict=True)) for row in rows]
    assert len(records) == 5 * len(RETRIEVAL_WRITTEN)
    one = next(r for r in records if (r["scenario"], r["measure"]) == ("vgs", "image_to_speech_r1"))
    finals = results.finals("vgs")
    assert one["seed_1"] == pytest.approx(finals[1].retrieval["image_to_speech_r1"])
    assert one["mean"] == pytest.approx((one["seed_1"] + one["seed_2"]) / 2)
    assert (one["n_seeds"], one["chance"], one["best_layer_seed_1"]) == (2, 2.0, "")
    chance = next(r for r in records if (r["scenario"], r["measure"]) == ("chance", "r10"))
    assert chance["mean"] == 20.0
    assert math.isnan(chance["low"])
    header, rows = csv_rows(abx_table(results, sampler), PHONES[:1], results.settings.seeds)
    assert dict(zip(header, rows[0], strict=True))["best_layer_seed_2"] in LAYERS


def test_markdown_and_latex_are_rectangular(results, sampler):
    for table in (retrieval_table(results, sampler), abx_table(results, sampler)):
        *lines, blank, note = markdown(table).splitlines()
        assert (blank, note) == ("", table.note)
        assert {line.count("|") for line in lines} == {len(table.measures) + 3}
        body = [line for line in latex(table).splitlines() if line.endswith(r"\\")]
        assert {line.count("&") for line in body} == {len(table.measures)}
    assert "(2)" in markdown(abx_table(results, sampler))  # the best layer of a seed


def test_latex_intervals_are_brackets_since_they_may_be_lopsided(results, sampler):
    table = retrieval_table(results, sampler)
    row = table.rows[1]
    at_the_top = replace(row.estimates["speech_to_image_r1"], value=100.0, low=98.8, high=100.0)
    estimates = {**row.estimates, "speech_to_image_r1": at_the_top}
    text = unpadded(latex(replace(table, rows=(replace(row, estimates=estimates),))))
    assert "VGS & 100.0 [98.8, 100.0] & " in text
    assert "pm" not in text


def test_phones_across_speakers_have_a_column_with_their_own_best_layers(results, sampler):
    table = abx_table(with_across(results), sampler)
    assert [measure.name for measure in table.measures] == ["abx", "abx_across"]
    for row in table.rows[:4]:
        within, across = (row.estimates[name] for name in ("abx", "abx_across"))
        assert across.value == pytest.approx(1.2 * within.value)
        assert row.layers["abx_across"] == row.layers["abx"]
    assert [table.rows[4].cell(measure) for measure in table.measures] == ["7.2", NOTHING]
    assert [table.rows[5].cell(measure) for measure in table.measures] == ["50.0", "50.0"]
    rows = [dict(zip(POINT_COLUMNS, row, strict=True)) for row in point_rows(with_across(results))]
    assert sum(row["measure"] == "abx_across" for row in rows) == sum(row["measure"] == "abx" for row in rows)


def test_long_table_has_every_number_of_every_point(results):
    rows = [dict(zip(POINT_COLUMNS, row, strict=True)) for row in point_rows(results)]
    points = [*results.points, *results.untrained.values()]
    assert len(rows) == sum(len(p.losses) + len(p.retrieval) + len(p.abx) for p in points)
    found = {(r["scenario"], r["seed"], r["update"], r["measure"], r["layer"]): r for r in rows}
    assert len(found) == len(rows)
    final = results.finals("w2v2_then_vgs")[2]
    row = found["w2v2_then_vgs", 2, 280, "abx", "layer_3"]
    assert (row["value"], row["chance"], row["phase"]) == (final.abx["layer_3"], 50.0, "second")
    assert math.isnan(found["vgs", 1, 40, "vgs_loss", ""]["chance"])


def bold(results, name):
    return {
        row for row, measure in retrieval_table(results, Sampler(n_resamples=300)).best if measure == name
    }


def test_only_what_is_above_chance_and_close_to_the_best_is_bold(tmp_path):
    """Of six pictures VGS+ finds all, VGS 3, 2 and 3, W2V2 one, which is chance."""
    results = six_pictures(tmp_path)
    assert bold(results, "speech_to_image_r1") == {"vgs_plus"}
    # VGS is clearly above 1 %, but as clearly behind VGS+
    low = replace(results, chance=dict.fromkeys(results.chance, 1.0))
    assert bold(low, "speech_to_image_r1") == {"vgs_plus"}
    row = next(row for row in retrieval_table(low, Sampler(300)).rows if row.name == "vgs")
    assert row.estimates["speech_to_image_r1"].low > 1.0
    for chance in ({}, dict.fromkeys(results.chance, 99.9), dict.fromkeys(results.chance, 100.0)):
        assert bold(replace(results, chance=chance), "speech_to_image_r1") == set()


def test_whoever_cannot_be_told_from_the_best_is_bold_too(tmp_path):
    results = six_pictures(tmp_path)
    points = [point for point in results.points if point.scenario != "w2v2"]
    points += [replace(point, scenario="w2v2") for point in points if point.scenario == "vgs_plus"]
    equal = replace(results, points=tuple(points))
    assert bold(equal, "speech_to_image_r1") == {"vgs_plus", "w2v2"}
    table = retrieval_table(equal, Sampler(n_resamples=300))
    assert markdown(table).count("**") == 2 * latex(table).count(r"\textbf{") == 8
    assert r"VGS+ & \textbf{100.0 [" in latex(table)


def test_words_have_a_table_with_their_best_layer(results, sampler, tmp_path):
    points = tuple(
        with_lexical(p, tmp_path / f"{p.scenario}-{p.seed}", [[10, 30, 50], [40, 60, 80]])
        for p in results.points
        if p.update == results.settings.updates_of(p.scenario)
    )
    chosen = replace(results.settings, lexical="words")
    found = replace(results, points=points, settings=chosen, lexical_baselines={"mfcc": 71.3})
    table = lexical_table(replace(found, chance={"lexical": 2.0}), sampler)
    assert [row.name for row in table.rows] == [*SCENARIOS, "untrained", "mfcc", "chance"]
    assert table.rows[0].estimates["lexical"].value == 60.0
    assert table.rows[0].layers["lexical"] == {1: "layer_2", 2: "layer_2"}
    assert [table.rows[n].cell(WORDS) for n in (3, 4, 5)] == [NOTHING, "71.3", "2.0"]
    assert {name for name, _ in table.best} == set(SCENARIOS)  # they are equal
