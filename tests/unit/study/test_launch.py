import shutil
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from fairseq_vgs.launch.command import command_identity
from fairseq_vgs.study.launch import evaluation_command, training_command
from fairseq_vgs.study.plan import PhaseRun, RunFolder
from fairseq_vgs.study.settings import StudySettings

RUN = PhaseRun("w2v2_then_vgs-seed3", "w2v2_then_vgs", 3, 50, 50, start="w2v2-seed3", start_update=20)
EXAMPLES = Path(__file__).parents[3] / "examples" / "vgs"
FOLDER = Path("/studies/it's, \"mine\" {1} = $x \\o/ \\' ö\\")


@pytest.fixture
def settings():
    return StudySettings(
        data="d",
        whole_updates=70,
        first_updates=20,
        second_updates=50,
        evaluate_every=10,
        config_dir="examples/vgs",
        abx="abx folder",
        overrides=["run_config=study", "optimization.lr=[0.1]"],
    )


def overrides(command):
    """Read the overrides as Hydra does."""
    entries = command[command.index("--config-name") + 2 :]
    parsed = OverridesParser.create().parse_overrides(entries)
    return {override.key_or_group: override.value() for override in parsed}


def test_training_command_is_plain_fairseq(settings):
    command = training_command(RUN, settings, data=Path("/d"), folder=RunFolder(FOLDER), start=None)
    assert Path(command[0]).name == "fairseq-hydra-train"
    assert command[1] == "--config-dir"
    assert command[4] == "w2v2_then_vgs"
    found = overrides(command)
    assert found["common.seed"] == 3
    assert found["optimization.max_update"] == found["lr_scheduler.total_num_update"] == 50
    assert found["lr_scheduler.warmup_updates"] == 5
    assert found["optimization.lr"] == [0.1]
    assert found["checkpoint.save_interval_updates"] == 10
    assert "checkpoint.finetune_from_model" not in found


def test_any_path_survives_hydra(settings):
    command = training_command(
        RUN, settings, data=FOLDER / "data", folder=RunFolder(FOLDER), start=FOLDER / "c.pt"
    )
    found = overrides(command)
    assert found["task.data"] == str(FOLDER / "data")
    assert found["hydra.run.dir"] == str(FOLDER / "run")
    assert found["checkpoint.finetune_from_model"] == str(FOLDER / "c.pt")


def test_schedule_may_be_longer_than_the_run(settings):
    left = PhaseRun("w2v2-seed1", "w2v2", 1, 20, 70)
    found = overrides(training_command(left, settings, data=Path("/d"), folder=RunFolder(FOLDER), start=None))
    assert found["optimization.max_update"] == 20
    assert found["lr_scheduler.total_num_update"] == 70
    assert found["lr_scheduler.warmup_updates"] == 7


def identity(settings):
    return command_identity(
        training_command(RUN, settings, data=Path("/d"), folder=RunFolder(FOLDER), start=None)
    )


def different(first, second):
    return {key for key in {*first, *second} if first.get(key) != second.get(key)}


def test_identity_tells_what_differs(settings):
    before = identity(settings)
    assert before["common.seed"] == "3"
    assert before["--config-name"] == "w2v2_then_vgs"
    settings.overrides = ["run_config=study", "optimization.lr=[0.2]"]
    assert different(before, identity(settings)) == {"optimization.lr"}


def test_identity_knows_the_files_of_the_configuration(settings, tmp_path):
    shutil.copytree(EXAMPLES, tmp_path / "vgs")
    settings.config_dir = str(tmp_path / "vgs")
    before = identity(settings)
    chosen = {
        "base.yaml",
        "model/tiny.yaml",
        "scenario/vgs.yaml",
        "phase/second.yaml",
        "run_config/study.yaml",
    }
    assert chosen <= set(before)
    for name in ("run_config/cpu.yaml", "run_config/study.yaml"):
        path = tmp_path / "vgs" / name
        path.write_text(path.read_text().replace("clip_norm: ", "clip_norm: 7"))
    path = tmp_path / "vgs" / "base.yaml"
    path.write_text(path.read_text() + "\n# a comment\n")
    assert different(before, identity(settings)) == {"run_config/study.yaml"}


def test_evaluation_command_with_words(settings):
    settings.lexical, settings.lexical_split = "{output}/words", "valid"
    options = {"data": Path("/d"), "folder": RunFolder(FOLDER), "untrained": True, "device": "cpu"}
    command = evaluation_command(RUN, settings, **options, words=Path("/o/my words"))
    assert command[command.index("--also") + 1] == "lexical '/o/my words' --split valid"
    assert "--also" not in evaluation_command(RUN, settings, **options)


def test_evaluation_command(settings):
    command = evaluation_command(
        RUN, settings, data=Path("/d"), folder=RunFolder(FOLDER), untrained=True, device="cpu"
    )
    assert command[command.index("--untrained-seed") + 1] == "3"
    assert "--force" in command  # other settings than at first: measured anew, not refused
    assert command[command.index("--abx") + 1] == str(Path("abx folder").resolve())
    assert command[command.index("--abx-speakers") + 1] == "within"
    settings.abx_speakers = ["within", "across"]
    command = evaluation_command(
        RUN, settings, data=Path("/d"), folder=RunFolder(FOLDER), untrained=True, device="cpu"
    )
    assert command[command.index("--abx-speakers") + 1 :][:2] == ["within", "across"]
    settings.abx = None
    command = evaluation_command(
        RUN, settings, data=Path("/d"), folder=RunFolder(FOLDER), untrained=False, device="cpu"
    )
    assert "--abx" not in command
    assert "--untrained-seed" not in command
    assert command[-2:] == ["--baseline", "none"]


@pytest.mark.parametrize("on_gpu", [False, True])
def test_run_is_where_its_slot_is_whatever_its_run_config_says(settings, on_gpu):
    settings.overrides = ["run_config=gpu_1"]
    command = training_command(
        RUN, settings, data=Path("/d"), folder=RunFolder(FOLDER), start=None, on_gpu=on_gpu
    )
    assert overrides(command)["common.cpu"] is not on_gpu


def test_number_of_epochs_does_not_end_a_run(settings):
    command = training_command(RUN, settings, data=Path("/d"), folder=RunFolder(FOLDER), start=None)
    assert overrides(command)["optimization.max_epoch"] == 0
