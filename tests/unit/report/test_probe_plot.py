"""The plot of probes: every layer of every measure is in the CSV."""

import csv
import math

import pytest
from PIL import Image

from fairseq_vgs.report.probe_log import ProbeRecord
from fairseq_vgs.report.probe_plot import plot_probes, probe_panels
from fairseq_vgs.report.training_log import TrainingLogError


def record(update, cosine=0.25, *, drift=True):
    groups = ("extractor", "input", "layer_1", "layer_2", "shared")
    cka = {"extractor": 1.0, "layer_1": 1 - update / 100} if drift else {}
    return ProbeRecord(
        update, dict.fromkeys(groups, cosine), dict.fromkeys(groups, 2.0), dict.fromkeys(groups, 0.1), cka
    )


def test_png_and_csv_hold_the_curves(tmp_path):
    table = plot_probes([record(0), record(10, -0.5), record(20, math.nan)], tmp_path / "probes.png")
    with Image.open(tmp_path / "probes.png") as picture:
        assert picture.width > 1000
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    drift = [(row["update"], row["value"]) for row in rows if row["unit"] == "linear CKA"]
    assert drift[:3] == [("0", "1.0"), ("10", "1.0"), ("20", "1.0")]
    assert drift[3:] == [("0", "1.0"), ("10", "0.9"), ("20", "0.8")]
    cosine = [row["value"] for row in rows if row["unit"] == "cosine" and row["series"] == "layer 2"]
    assert cosine == ["0.25", "-0.5", ""]
    assert len(rows) == 3 * (5 * 3 + 2)


def test_lines_differ():
    panel = probe_panels([record(0)])[0]
    assert len({series.colour for series in panel.series}) == len(panel.series) == 5
    assert [series.label for series in panel.series if series.dashed] == ["shared"]


def test_axes_show_small_cosines_and_all_of_the_drift():
    cosine, drift = probe_panels([record(0, 0.01), record(27, -0.02), record(28, math.nan)])[:2]
    assert cosine.limits == (-0.02, 0.02)
    assert drift.limits == (0.7, 1.0)


def test_a_run_without_drift_has_no_such_panel():
    assert [panel.unit for panel in probe_panels([record(5, drift=False)])].count("linear CKA") == 0


def test_nothing_to_draw(tmp_path):
    with pytest.raises(TrainingLogError, match=r"train with task\.probe_interval"):
        plot_probes([], tmp_path / "probes.png")
