"""A metric is one file, in the package or outside of it: command, baselines, a run, comparison, plot."""

import csv
import json

import pytest
from support.abx_material import write_checkpoint, write_recordings
from support.tiny_folder import make_folder

from fairseq_vgs.cli.main import main
from fairseq_vgs.evaluation.evaluator import EVALUATORS, chosen_baselines
from fairseq_vgs.evaluation.over_training import read_checkpoint
from fairseq_vgs.files.faults import FaultError

METRIC = '''
"""Energy of layers: how many percent of a recording's frames are louder than its first one."""

from dataclasses import dataclass

import numpy as np

from fairseq_vgs.evaluation.evaluator import EVALUATORS, CommonSettings, Evaluator
from fairseq_vgs.evaluation.results import Items, Reported, Scores
from fairseq_vgs.features.recordings import open_recordings
from fairseq_vgs.options import option


@dataclass(frozen=True)
class EnergySettings(CommonSettings):
    order: int = option(2, help="of the norm", metavar="N")


@EVALUATORS.register("energy")
class Energy(Evaluator):
    name = "energy"
    summary = "share of loud frames of every layer"
    Settings = EnergySettings
    layered = True
    axis = "loud frames"

    def measure(self, model, settings):
        recordings = open_recordings(settings.data, settings.split)
        features, found = model.features(recordings, device=settings.device), {}
        for name in recordings:
            for layer, frames in features(name).items():
                norms = frames.norm(p=settings.order, dim=1)
                found.setdefault(layer, []).append(100 * float((norms > norms[0]).float().mean()))
        values = {layer: np.array(shares) for layer, shares in found.items()}
        items = Items({"recording": list(recordings)}, np.arange(len(recordings)), "recordings", values)
        return Scores({"recordings": items}, {layer: Reported("%", None) for layer in values})
'''


@pytest.fixture
def energy(tmp_path, monkeypatch):
    """The metric in a module that FAIRSEQ_VGS_EXTENSIONS names."""
    monkeypatch.setattr(EVALUATORS, "_entries", dict(EVALUATORS.items()))
    (tmp_path / "extensions").mkdir()
    (tmp_path / "extensions" / "energy_of_layers.py").write_text(METRIC)
    monkeypatch.syspath_prepend(tmp_path / "extensions")
    monkeypatch.setenv("FAIRSEQ_VGS_EXTENSIONS", "energy_of_layers")


def test_one_file_is_a_command_part_of_a_run_a_comparison_and_a_plot(energy, tmp_path, capsys):
    write_recordings(tmp_path / "data")
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    checkpoint = write_checkpoint(tmp_path / "run" / "checkpoints" / "checkpoint_1_7.pt")
    places = [str(checkpoint), str(tmp_path / "data")]

    with pytest.raises(SystemExit):
        main(["evaluate", "energy", "--help"])
    assert "of the norm (default: 2)" in capsys.readouterr().out

    output = tmp_path / "out"
    assert main(["evaluate", "energy", *places, "--output", str(output), "--order", "1"]) == 0
    table = capsys.readouterr().out
    for words in ("trained (7 updates)", "untrained (seed 1)", "\nlayer_3 ", "\nmfcc "):
        assert words in table
    content = json.loads((output / "metrics.json").read_text())
    assert content["condition"] == {"order": 1}
    # MFCC are measured on the same recordings, so that they can be subtracted from every layer
    assert set(content["differences"]) == {"trained minus untrained", "trained minus mfcc"}
    interval = content["models"]["trained"]["metrics"]["layer_1"]["interval"]
    assert interval["method"] == "bootstrap over recordings"

    assert main(["evaluate", "energy", *places, "--output", str(output)]) == 1  # there are results
    assert main(["evaluate", "energy", *places, "--baseline", "none", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["models"]) == ["trained"]
    other = checkpoint.with_name("checkpoint_1_7_energy_test")
    assert main(["compare", str(output), str(other)]) == 1
    assert "(order)" in capsys.readouterr().err
    assert main(["compare", str(other), str(output), "--allow-different-data"]) == 0

    make_folder(tmp_path / "pairs", lengths={"test": [7000, 7300]})
    run = ["evaluate", "run", str(tmp_path / "run"), str(tmp_path / "pairs")]
    assert main([*run, "--also", f"energy {tmp_path / 'data'} --order 1"]) == 0
    assert "energy" in capsys.readouterr().out
    found = read_checkpoint(tmp_path / "run" / "evaluation" / "7")["energy"].models["trained"]
    assert list(found) == ["layer_1", "layer_2", "layer_3"]
    assert found["layer_1"].as_json() == content["models"]["trained"]["metrics"]["layer_1"]
    assert main(["compare", str(tmp_path / "run")]) == 0
    assert "energy, layer_1 %" in capsys.readouterr().out

    assert main(["plot", "energy", str(output), str(tmp_path / "energy.png")]) == 0
    with (tmp_path / "energy.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["layer"] for row in rows if row["model"] == "trained"] == [f"layer_{n}" for n in range(4)]


def test_none_stands_alone_and_baselines_are_the_evaluators():
    abx, retrieval = EVALUATORS["abx"](), EVALUATORS["retrieval"]()
    assert chosen_baselines(abx, ()) == ("untrained", "mfcc")
    assert chosen_baselines(retrieval, ()) == ("untrained",)
    assert chosen_baselines(abx, ["none"]) == ()
    assert chosen_baselines(abx, ["mfcc", "mfcc"]) == ("mfcc",)
    for evaluator, given in ((abx, ["none", "untrained"]), (retrieval, ["mfcc"])):
        with pytest.raises(FaultError) as error:
            chosen_baselines(evaluator, given)
        assert error.value.codes == ("setting.value",)
