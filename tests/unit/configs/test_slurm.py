"""The job scripts for SLURM, with stand-ins for srun, scontrol and training."""

import os
import subprocess
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

SCRIPTS = Path(__file__).parents[3] / "examples" / "vgs" / "slurm"
STAND_IN = """#!/usr/bin/env bash
printf '%s\\n' "${0##*/}" "$@" > "$(dirname "$0")/../${0##*/}.said"
[ "${0##*/}" = scontrol ] || exit "$STATUS"
"""


@pytest.fixture
def submit(tmp_path, monkeypatch):
    """Run a script as SLURM would; return its status and what srun and scontrol were told."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("srun", "scontrol"):
        (programs / name).write_text(STAND_IN)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")

    def run(script, *arguments, training_ends_with=0, **environment):
        settings = {**os.environ, "STATUS": str(training_ends_with), **environment}
        done = subprocess.run(
            ["bash", str(SCRIPTS / script), *arguments],
            env=settings,
            capture_output=True,
            text=True,
            check=False,
        )
        said = {
            name: (tmp_path / f"{name}.said").read_text().splitlines()[1:]
            for name in ("srun", "scontrol")
            if (tmp_path / f"{name}.said").exists()
        }
        return done.returncode, said, done.stderr

    return run


def test_a_job_trains_with_its_arguments_and_cores(submit):
    words = ["--config-name", "vgs_plus", "task.data='a b'", "hydra.run.dir='my run'"]
    status, said, _ = submit("train.sbatch", *words, SLURM_CPUS_PER_TASK="4", SLURM_JOB_ID="7")
    assert status == 0
    assert said == {"srun": ["--cpus-per-task=4", "fairseq-hydra-train", *words]}


@pytest.mark.parametrize(("status", "again"), [(143, True), (1, False), (0, False)])
def test_only_a_job_that_was_stopped_is_queued_again(submit, status, again):
    found, said, _ = submit("train.sbatch", "hydra.run.dir=x", training_ends_with=status, SLURM_JOB_ID="7")
    assert found == status
    assert said.get("scontrol") == (["requeue", "7"] if again else None)


def test_a_job_needs_a_folder_to_go_on_in(submit):
    status, said, errors = submit("train.sbatch", "--config-name", "vgs_plus", SLURM_JOB_ID="7")
    assert (status, said) == (2, {})
    assert "hydra.run.dir" in errors


@pytest.mark.parametrize("folder", ["it's mine", "a\\'b", "''", "back\\slash", "an, {odd} [one]=$x"])
def test_the_folder_of_a_sweep_may_have_any_name(submit, folder):
    _, said, _ = submit("sweep.sbatch", folder, "a=b", training_ends_with=0, SLURM_ARRAY_TASK_ID="0")
    (override,) = OverridesParser.create().parse_overrides([said["srun"][-1]])
    assert override.value() == f"{folder}/alpha_0.1-seed_1"


def test_an_array_covers_all_pairs_of_alpha_and_seed(submit):
    runs = set()
    for number in range(6):
        identity = {"SLURM_ARRAY_TASK_ID": str(number), "SLURM_ARRAY_JOB_ID": "9"}
        status, said, _ = submit("sweep.sbatch", "my sweep", "a=b", training_ends_with=143, **identity)
        assert status == 143
        assert said["scontrol"] == ["requeue", f"9_{number}"]
        runs.add(tuple(said["srun"][3:]))
    assert runs == {
        (f"criterion.alpha_values=[{a}]", f"common.seed={n}", f"hydra.run.dir='my sweep/alpha_{a}-seed_{n}'")
        for a in ("0.1", "0.5", "0.9")
        for n in (1, 2)
    }
