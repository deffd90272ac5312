"""fairseq-vgs evaluate abx, and plot abx: table, files, refusals."""

import csv
import json
import resource

import pytest
from support.abx_material import write_checkpoint, write_recordings

from fairseq_vgs.cli.main import main
from fairseq_vgs.files.provenance import sha256_file


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_recordings(tmp_path_factory.mktemp("abx") / "set")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("model") / "checkpoint_best.pt")


def test_table_and_files(folder, checkpoint, tmp_path, capsys):
    output = tmp_path / "out"
    assert main(["evaluate", "abx", str(checkpoint), str(folder), "--output", str(output)]) == 0
    table = capsys.readouterr().out
    assert "phone ABX error in %, phones.item: within speaker, within context, angular distance" in table
    assert "36 items, 18 cells, 6 ordered phone pairs" in table
    assert "trained (7 updates)" in table and "untrained (seed 1)" in table
    for row in ("layer_0", "layer_3", "mfcc", "chance"):
        assert f"\n{row} " in table
    metrics = json.loads((output / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["kind"] == "abx"
    assert metrics["checkpoint"]["sha256"] == sha256_file(checkpoint)
    assert metrics["items"] == {"file": "phones.item", "sha256": sha256_file(folder / "phones.item")}
    assert metrics["condition"]["max_size_group"] == 10
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    assert 50 < metrics["cost"]["peak_memory_mb"] <= most + 0.1
    assert list(metrics["models"]) == ["trained", "untrained", "mfcc"]
    assert [metrics["models"][name]["frame_rate"] for name in metrics["models"]] == [50.0, 50.0, 100.0]
    figure = metrics["models"]["trained"]["metrics"]["layer_2"]
    assert (figure["n"], figure["chance"], figure["unit"]) == (18, 50.0, "%")
    assert figure["interval"]["low"] <= figure["value"] <= figure["interval"]["high"]
    # The checkpoint was never trained, yet its weights are not those that are drawn for the baseline.
    assert figure["value"] != metrics["models"]["untrained"]["metrics"]["layer_2"]["value"]
    assert set(metrics["differences"]) == {"trained minus untrained", "trained minus mfcc"}
    assert set(metrics["differences"]["trained minus mfcc"]) == {f"layer_{n}" for n in range(4)}
    assert metrics["provenance"]["manifest"].keys() == {"test.tsv"}
    with (output / "cells_mfcc.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 18 and set(rows[0]) >= {"phone_a", "x_speaker", "triples", "mfcc"}

    assert main(["plot", "abx", str(output), str(tmp_path / "abx.png")]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "abx.png"), str(tmp_path / "abx.csv")]


def test_json_conditions_and_repeatability(folder, checkpoint, tmp_path, capsys):
    options = ["--speaker", "across", "--max-x-across", "1", "--max-size-group", "all", "--baseline", "none"]
    values = []
    for name in ("a", "b"):
        command = [
            "evaluate",
            "abx",
            str(checkpoint),
            str(folder),
            "--output",
            str(tmp_path / name),
            *options,
        ]
        assert main([*command, "--json", "--items", "phones.item", "--layers", "0", "3"]) == 0
        printed = capsys.readouterr().out
        assert printed == (tmp_path / name / "metrics.json").read_text(encoding="utf-8")
        values.append(json.loads(printed))
    assert values[0]["models"]["trained"]["metrics"] == values[1]["models"]["trained"]["metrics"]
    assert list(values[0]["models"]) == ["trained"]
    assert list(values[0]["models"]["trained"]["metrics"]) == ["layer_0", "layer_3"]
    assert values[0]["differences"] == {}
    assert values[0]["condition"] == {
        "speaker": "across",
        "context": "within",
        "distance": "angular",
        "max_size_group": None,
        "max_x_across": 1,
        "librilight_slicing": False,
    }


def test_a_collapsed_model_is_at_chance_and_said_to_be(folder, tmp_path, capsys, caplog):
    checkpoint = write_checkpoint(tmp_path / "collapsed.pt", collapsed=True)
    assert main(["evaluate", "abx", str(checkpoint), str(folder), "--baseline", "none", "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out)["models"]["trained"]["metrics"]
    assert {metric["value"] for metric in metrics.values()} == {50.0}
    assert "all frames are equal (collapsed)" in caplog.text
    assert (tmp_path / "collapsed_abx_within_within" / "metrics.json").is_file()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: (d / "phones.item").unlink(), "folder must hold one item file, got []"),
        (lambda d: (d / "more.item").write_text(""), "name one with --items"),
        (lambda d: _append(d, "r7 0 0.1 p0 a b s"), "phones.item:38: file must be one of the 3 recordings"),
        (lambda d: _append(d, "r0 1 9 p0 a b s"), "phones.item:38: offset must be within"),
        (lambda d: _append(d, "r0 1 p0 a b s"), "phones.item:38: line must have 7 fields"),
    ],
)
def test_bad_folders(checkpoint, tmp_path, capsys, change, message):
    folder = write_recordings(tmp_path / "set")
    change(folder)
    assert main(["evaluate", "abx", str(checkpoint), str(folder), "--output", str(tmp_path / "out")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_existing_results_are_kept(folder, checkpoint, tmp_path, capsys):
    output = tmp_path / "out"
    output.mkdir()
    (output / "metrics.json").write_text("mine")
    command = ["evaluate", "abx", str(checkpoint), str(folder), "--output", str(output)]
    assert main(command) == 1
    assert "pass --force" in capsys.readouterr().err
    assert (output / "metrics.json").read_text() == "mine"


def test_items_too_short_for_the_model_are_counted_by_model(checkpoint, tmp_path, capsys):
    folder = write_recordings(tmp_path / "set")
    rows = (folder / "phones.item").read_text().splitlines()
    for number in range(1, len(rows), 4):  # no middle of a frame of 20 ms is in them, one of 10 ms is
        name, onset, _, *rest = rows[number].split()
        rows[number] = " ".join([name, f"{float(onset) + 0.012:g}", f"{float(onset) + 0.027:g}", *rest])
    (folder / "phones.item").write_text("\n".join(rows) + "\n")
    output = tmp_path / "out"
    assert main(["evaluate", "abx", str(checkpoint), str(folder), "--output", str(output)]) == 0
    table = capsys.readouterr().out
    content = json.loads((output / "metrics.json").read_text(encoding="utf-8"))
    counts = {name: model["counts"] for name, model in content["models"].items()}
    assert counts["mfcc"]["no_frame"] < counts["trained"]["no_frame"]
    for title, name in (("trained (7 updates)", "trained"), ("MFCC", "mfcc")):
        assert f"  {title}: 36 items, {counts[name]['cells']} cells" in table
    assert set(content["differences"]) == {"trained minus untrained"}
    assert f"note: {content['notes'][0]}\n" in table
    assert "MFCC was not measured on the same items as trained" in table
    assert main(["compare", str(output)]) == 0
    assert content["notes"][0] in capsys.readouterr().out


def test_help_says_what_is_resampled(capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", "abx", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "over resampled phones." in text


@pytest.mark.parametrize(
    "options",
    [
        ["--max-size-group", "0"],
        ["--speaker", "both"],
        ["--baseline", "all"],
        ["--baseline", "none", "--baseline", "mfcc"],
        ["--baseline", "mfcc", "--baseline", "none"],
    ],
)
def test_wrong_usage(folder, checkpoint, options):
    with pytest.raises(SystemExit) as caught:
        main(["evaluate", "abx", str(checkpoint), str(folder), *options])
    assert caught.value.code == 2


def test_unknown_layers(folder, checkpoint, tmp_path, capsys):
    command = ["evaluate", "abx", str(checkpoint), str(folder), "--output", str(tmp_path / "out")]
    assert main([*command, "--layers", "2", "4", "-1"]) == 1
    assert "layers must be from 0 to 3, got [-1, 4]" in capsys.readouterr().err


def _append(folder, line):
    with (folder / "phones.item").open("a") as file:
        file.write(line + "\n")
