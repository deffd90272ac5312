"""fairseq-vgs extract: the summary, and options that reach the files."""

import json
import shlex
import subprocess
import sys

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
    assert out.startswith("2 utterances and 0 images in ")
    _, held, look = out.splitlines()
    size = sum(path.stat().st_size for path in output.rglob("*.npy")) / 1e6
    parts = "layer_1/, layer_2/, speech_embedding/: 2 layers at 50 frames per second; "
    assert held.startswith(f"{output} holds 6 npy files, {size:.1f} MB, in {parts}")
    assert "metadata.json" in held
    program = shlex.split(look.removeprefix("open one: "))
    assert program[:2] == ["python", "-c"]
    done = subprocess.run([sys.executable, *program[1:]], capture_output=True, check=True, text=True)
    assert done.stdout == "(59, 24)\n"
    assert np.load(output / "layer_2/r1.npy").shape == (59, 24)
    assert main([*command, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["output"] == str(output)
    assert (summary["n_kept"], summary["layers"]) == (2, ["layer_1", "layer_2"])
    write_recordings(tmp_path / "other", n_files=1, tokens_per_file=10)
    (tmp_path / "other/r0.wav").replace(folder / "r0.wav")
    (tmp_path / "other/test.tsv").replace(folder / "test.tsv")
    assert main(command) == 0
    assert "\n1 of them were recomputed, since their files changed" in capsys.readouterr().out
    assert np.load(output / "layer_2/r0.npy").shape == (49, 24)
    # other weights are other features
    assert main([*command, "--untrained", "1"]) == 1
    assert "started with other settings (trained: " in capsys.readouterr().err


def test_safetensors_are_described(tmp_path, capsys):
    pytest.importorskip("safetensors")
    checkpoint = write_checkpoint(tmp_path / "checkpoint.pt")
    folder, output = write_recordings(tmp_path / "set", n_files=1), tmp_path / "out's"
    options = ["--output", str(output), "--layers", "2", "--format", "safetensors"]
    assert main(["extract", str(checkpoint), str(folder), *options]) == 0
    held, look = capsys.readouterr().out.splitlines()[-2:]
    assert f"{output} holds 1 safetensors files" in held
    assert "in speech/: 1 layers at 50 frames per second" in held
    program = shlex.split(look.removeprefix("open one: "))
    done = subprocess.run([sys.executable, *program[1:]], capture_output=True, check=True, text=True)
    assert "'layer_2': (59, 24)" in done.stdout


@pytest.mark.parametrize("value", ["0", "nan", "-1"])
def test_impossible_batches(value, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["extract", "c.pt", "DATA", "--output", "out", "--batch-seconds", value])
    assert stop.value.code == 2
