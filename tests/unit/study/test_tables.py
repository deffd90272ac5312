"""Tables of a study: means, intervals, seeds, dashes."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
from support.study_results import LAYERS, N_IMAGES, N_PHONES, study_results, with_across, without

from fairseq_vgs.study.statistics import Sampler
from fairseq_vgs.study.tables import (
    NOTHING,
    PHONES,
    POINT_COLUMNS,
    RETRIEVAL_WRITTEN,
    abx_table,
    csv_rows,
    latex,
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
    assert table.rows[-1].constants["speech_to_image_r10"] == 25.0


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
    assert table.best(PHONES[0]) == min(row.estimates["abx"].value for row in table.rows[:3])


def unpadded(text):
    return re.sub(" +", " ", text)


def test_unfinished_scenarios_are_dashes(results, sampler):
    half = without(without(results, "vgs", 2, beyond=240), "w2v2", 1)
    nothing = without(half, "w2v2", 2, beyond=40)
    table = retrieval_table(nothing, sampler)
    assert [row.seeds_text for row in table.rows] == ["0 of 2", "1 of 2", "2", "2", ""]
    assert all(table.rows[0].cell(measure) == NOTHING for measure in table.measures)
    assert f"| W2V2 | {NOTHING} | {NOTHING} | {NOTHING} | {NOTHING} | 0 of 2 |" in unpadded(markdown(table))
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
    assert (one["n_seeds"], one["chance"], one["best_layer_seed_1"]) == (2, 2.5, "")
    chance = next(r for r in records if (r["scenario"], r["measure"]) == ("chance", "r10"))
    assert chance["mean"] == 25.0
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
