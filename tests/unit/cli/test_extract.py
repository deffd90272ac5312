"""fairseq-vgs extract: the summary, and options that reach the files."""

import json

import numpy as np
import pytest
from support.abx_material import write_checkpoint, write_recordings

from fairseq_vgs.cli.main import main


def test_summary_and_files(tmp_path, capsys):
    checkpoint = write_checkpoint(tmp_path / "checkpoint.pt")
    folder, output = write_recordings(tmp_path / "set", n_files=2), tmp_path / "out"
    command = ["extract", str(checkpoint), str(folder), "--output", str(output), "--layers", "1", "2"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert out.startswith("2 utterances (2 layers at 50 frames per second), 0 images in ")
    assert out.endswith(f"{output}\n")
    assert np.load(output / "layer_2/r1.npy").shape == (59, 24)
    assert main([*command, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["n_kept"], summary["layers"]) == (2, ["layer_1", "layer_2"])
    # other weights are other features
    assert main([*command, "--untrained", "1"]) == 1
    assert "holds features made otherwise" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["0", "nan", "-1"])
def test_impossible_batches(value, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["extract", "c.pt", "DATA", "--output", "out", "--batch-seconds", value])
    assert stop.value.code == 2
