"""A study of three genuine runs, killed in the middle and run again."""

import csv
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from support.train import CHECKOUT, EMBEDDED, environment

from fairseq_vgs.evaluation.over_training import checkpoints_in, read_checkpoint
from fairseq_vgs.manifest import read_audio_list, write_audio_list
from fairseq_vgs.metrics.abx import read_items
from fairseq_vgs.study.plan import StudyFolder

ABX = EMBEDDED / "abx"
STUDY = """
config_dir: {config_dir}
data: {data}
split: valid
abx: {abx}
scenarios: [w2v2, w2v2_then_vgs]
seeds: [1]
whole_updates: 12
first_updates: 4
second_updates: 4
evaluate_every: 4
evaluate_at: [1, 2]
contrasts: [[w2v2, w2v2_then_vgs]]
overrides: [run_config=study, task.probe_interval=4, dataset.batch_size=4, common.log_interval=1]
"""


@pytest.fixture(scope="module")
def abx_folder(tmp_path_factory):
    """Six of the embedded utterances with their items; the speech stays where it is."""
    target = tmp_path_factory.mktemp("abx")
    audio = read_audio_list(ABX / "test.tsv")
    names = dict(line.split("\t")[:2] for line in (ABX / "utterances.tsv").read_text().splitlines()[1:])
    rows = audio.rows[:6]
    write_audio_list(target / "test.tsv", rows, root=str(ABX))
    kept = {names[row.audio_id] for row in rows}
    lines = (ABX / "utterances.tsv").read_text().splitlines()
    (target / "utterances.tsv").write_text(
        "\n".join([lines[0], *(line for line in lines[1:] if line.split("\t")[1] in kept)]) + "\n"
    )
    items = (ABX / "triphone.item").read_text().splitlines()
    (target / "triphone.item").write_text(
        "\n".join([items[0], *(line for line in items[1:] if line.split()[0] in kept)]) + "\n"
    )
    assert len(read_items(target / "triphone.item")) > 100
    return target


def study_command(study: Path, output: Path) -> list[str]:
    program = Path(sys.executable).with_name("fairseq-vgs")
    return [str(program), "study", str(study), "--output", str(output), "--processes", "2"]


def kill_in_training(command: list[str], folder: StudyFolder, history: Path) -> None:
    """Start a study and kill -9 it as soon as a run has made some updates; its processes end with it."""
    process = subprocess.Popen(command, cwd=CHECKOUT, env=environment(), stderr=subprocess.DEVNULL)
    for _ in range(1200):
        if history.exists() and history.read_text().count('"train"') >= 5:
            break
        assert process.poll() is None, "the study ended before it could be killed"
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    # The system stops its training, whose data workers look for their parent every five seconds.
    with folder.lock.open("r+b") as lock:
        for _ in range(300):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.1)
            else:
                return
    pytest.fail("the study's processes outlived it")


def test_study_survives_a_kill_and_ends_with_a_page(tmp_path, small_data, abx_folder):
    study = tmp_path / "study.yaml"
    study.write_text(STUDY.format(config_dir=CHECKOUT / "examples" / "vgs", data=small_data, abx=abx_folder))
    folder = StudyFolder(tmp_path / "out")
    command = study_command(study, folder.path)
    base, second = folder.run("w2v2-seed1"), folder.run("w2v2_then_vgs-seed1")

    kill_in_training(command, folder, base.history)
    assert not base.trained.exists()
    done = subprocess.run(
        command, cwd=CHECKOUT, env=environment(), capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    assert done.stdout.strip().endswith("report.html")

    # the killed run went on from a checkpoint, on the same log: after four updates, or later ones
    loaded = re.findall(
        r"Loaded checkpoint checkpoints/checkpoint_last.pt .* @ (\d+) updates", base.log.read_text()
    )
    assert [4 <= int(n_updates) < 12 for n_updates in loaded] == [True]
    # the second phase began with the first's weights and a schedule of its own
    snapshot = base.run / "checkpoints" / "checkpoint_1_4.pt"
    assert f"loading pretrained model from {snapshot}" in second.log.read_text()
    records = [json.loads(line) for line in second.history.read_text().splitlines()]
    rates = {record["update"]: record["lr"] for record in records if record["split"] == "train"}
    assert list(rates) == [1, 2, 3, 4]
    assert rates[4] == 0.0

    assert list(checkpoints_in(base.evaluation)) == [0, 4, 8, 12]
    # and with optimiser, update count and data order anew
    saved = torch.load(second.run / "checkpoints" / "checkpoint_1_4.pt", weights_only=False)
    assert {int(state["step"]) for state in saved["last_optimizer_state"]["state"].values()} == {4}
    assert saved["optimizer_history"][-1]["num_updates"] == 4
    assert saved["extra_state"]["train_iterator"]["epoch"] == 1
    assert saved["extra_state"]["train_iterator"]["iterations_in_epoch"] == 4

    # what the findings compare was not run
    assert json.loads((folder.results / "verdicts.json").read_text()) == []
    contrasts = json.loads((folder.results / "contrasts.json").read_text())
    assert {found["verdict"] for found in contrasts} == {"cannot tell"}
    assert {found["difference"]["n_seeds"] for found in contrasts} == {1}
    measured = read_checkpoint(second.evaluation / "4")["retrieval"].models["trained"]
    with (folder.results / "points.csv").open(encoding="utf-8", newline="") as file:
        rows = {
            (row["scenario"], row["update"], row["measure"]): row["value"] for row in csv.DictReader(file)
        }
    written = float(rows["w2v2_then_vgs", "8", "speech_to_image_mrr"])
    assert written == pytest.approx(measured["speech_to_image_mrr"].value.value, rel=1e-3)
    page = (folder.path / "report.html").read_text()
    assert "(W2V2, VGS)" in page
