"""Commands of ``fairseq-vgs train``: what they hold, and what is refused."""

import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from configs.test_compose import composed
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given
from hypothesis import strategies as st
from support.faults import raises_fault
from support.tiny_folder import make_folder
from support.train import ODD

from fairseq_vgs.files.hydra import quoted, unquoted
from fairseq_vgs.launch.command import overrides_of
from fairseq_vgs.launch.data import TrainingData, training_data
from fairseq_vgs.launch.hardware import Hardware
from fairseq_vgs.launch.training import Choices, compose_training

CPU, GPU = Hardware(), Hardware(1, has_bf16=True)
DATA = TrainingData(
    Path("/data/of mine"),
    3_000,
    has_regions=True,
    has_pictures=True,
    splits=("train", "valid"),
    n_valid_images=200,
)


def compose(data=DATA, hardware=CPU, **choices):
    return compose_training(data, Choices(**choices), hardware)


def values(training):
    """Read the overrides as Hydra does."""
    parsed = OverridesParser.create().parse_overrides(list(overrides_of(training.command)))
    return {override.key_or_group: override.value() for override in parsed}


@pytest.mark.parametrize(
    ("n_images", "metric"), [(6, "vgs_loss"), (10, "vgs_loss"), (11, "speech_to_image_r10")]
)
def test_recalls_of_few_pictures_choose_no_checkpoint(n_images, metric):
    training = compose(replace(DATA, n_valid_images=n_images))
    cfg = cfg_of(training)
    assert cfg.checkpoint.best_checkpoint_metric == metric
    assert cfg.checkpoint.maximize_best_checkpoint_metric == (n_images > 10)
    assert any(f"{n_images} pictures" in note for note in training.notes) == (n_images <= 10)
    assert (
        cfg_of(compose(replace(DATA, n_valid_images=3), scenario="w2v2")).checkpoint.best_checkpoint_metric
        == "loss"
    )


def cfg_of(training):
    words = [word for word in overrides_of(training.command) if not word.startswith("hydra.")]
    return composed(training.command[training.command.index("--config-name") + 1], *words)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_small_data_gets_the_quickstarts_recipe():
    training = compose()
    cfg, plain = cfg_of(training), composed("vgs_plus", "task.data='/data/of mine'")
    assert cfg == plain
    assert training.updates == 320
    assert training.run == Path("outputs", "of mine-vgs_plus-tiny").absolute()
    assert training.history == "history.jsonl"


def test_the_papers_recipe_is_the_papers():
    data = TrainingData(
        Path("/coco"),
        592_187,
        has_regions=True,
        has_pictures=False,
        splits=("train", "valid"),
        n_valid_images=200,
    )
    training = compose(data, GPU)
    cfg = cfg_of(training)
    plain = composed("vgs_plus", "model=paper", "run_config=gpu_1", "task.data=/coco")
    assert cfg.checkpoint.best_checkpoint_metric == "speech_to_image_r10"
    for section in ("task", "model", "criterion", "dataset", "optimizer", "lr_scheduler", "optimization"):
        assert cfg[section] == plain[section], section
    assert training.updates == 647_640


def test_the_last_phase_says_what_the_best_checkpoint_is(tmp_path):
    (tmp_path / "a.pt").write_bytes(b"PK\3\4")
    for scenario, expected in (("w2v2", "loss"), ("vgs", "speech_to_image_r10"), ("vgs_then_w2v2", "loss")):
        init = tmp_path / "a.pt" if "_then_" in scenario else None
        cfg = cfg_of(compose(scenario=scenario, size="small", init=init))
        assert cfg.checkpoint.best_checkpoint_metric == expected, scenario


def test_length_follows_the_updates_a_user_wants():
    found = values(compose(overrides=("optimization.max_update=1000",)))
    assert (found["optimization.max_update"], found["lr_scheduler.warmup_updates"]) == (1000, 75)
    left = ("optimization.max_update=200", "lr_scheduler.total_num_update=2000")
    found = values(compose(overrides=left))
    assert (found["optimization.max_update"], found["lr_scheduler.warmup_updates"]) == (200, 150)
    training = compose(overrides=("run_config=study",))
    assert "lr_scheduler.warmup_updates" not in values(training)
    assert training.updates == 0  # that file leaves it to the study


@pytest.mark.parametrize("text", ["1e3", "1_000", "1000.0", "'1000'"])
def test_updates_are_read_as_hydra_reads_them(text):
    training = compose(overrides=(f"optimization.max_update={text}",))
    assert training.updates == 1000
    found = values(training)
    assert found["lr_scheduler.warmup_updates"] == 75


@pytest.mark.parametrize("text", ["0", "-5", "0.5", "nan", "inf", "many"])
def test_what_is_no_number_of_updates_is_left_to_hydra(text):
    assert compose(overrides=(f"optimization.max_update={text}",)).updates == 320


@pytest.mark.parametrize(
    ("overrides", "note"),
    [
        ((), "320 updates of 32 pairs: 3.4 epochs"),
        (("dataset.batch_size=8",), "320 updates of 8 pairs: 0.9 epochs"),
        (("dataset.batch_size=8", "optimization.update_freq=[4]"), "320 updates of 32 pairs: 3.4 epochs"),
        (("distributed_training.distributed_world_size=2",), "320 updates of 64 pairs: 6.8 epochs"),
        (("dataset.batch_size=null", "dataset.max_tokens=900000"), "320 updates"),
    ],
)
def test_the_note_counts_the_pairs_of_the_run(overrides, note):
    assert note in compose(overrides=overrides).notes


def test_the_papers_pairs_are_shared_by_its_processes():
    notes = compose(replace(DATA, n_pairs=640_000), Hardware(4, has_bf16=True)).notes
    assert "700,000 updates of 64 pairs: 70.0 epochs" in notes


def test_a_schedule_without_a_warm_up_gets_none():
    cfg = cfg_of(compose(overrides=("schedule=tri_stage",)))
    assert "warmup_updates" not in cfg.lr_scheduler
    assert cfg == cfg_of(compose(overrides=("schedule=tri_stage", "~lr_scheduler.warmup_updates")))
    assert cfg_of(compose(overrides=("schedule=cosine",))).lr_scheduler.warmup_updates == 24


def test_settings_replace_what_was_chosen_and_come_last():
    given = ("model.vgs_layer=1", "+common.suppress_crashes=true", "~model.use_cls", "model=small")
    training = compose(hardware=GPU, size="small", overrides=given)
    words = list(overrides_of(training.command))
    assert words[-5:-1] == list(given)
    assert len([word for word in words if word.startswith("model=")]) == 1


@pytest.mark.parametrize(
    ("word", "code", "place"),
    [
        ("common.seed", "setting.value", "KEY=VALUE"),
        ("my data", "setting.value", "KEY=VALUE"),
        ("task.data=/x", "setting.conflict", "task.data"),
        ("hydra.run.dir=/x", "setting.conflict", "hydra.run.dir"),
    ],
)
def test_settings_that_are_none_or_have_an_option(word, code, place):
    with raises_fault(code, place):
        compose(overrides=(word,))


def test_paths_in_settings_may_hold_blanks_and_begin_with_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home of/me")
    (tmp_path / "Größe 1").mkdir()
    found = values(
        compose(
            overrides=("task.unpaired_data=~/spe ech", "model.image_backbone=Größe 1", "task.text_units=null")
        )
    )
    assert found["task.unpaired_data"] == "/home of/me/spe ech"
    assert found["model.image_backbone"] == str(tmp_path / "Größe 1")
    assert found["task.text_units"] is None


@given(st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=20))
@example(ODD)
@example("it's, \"mine\" {1} = $x \\o/ \\' ö\\")
def test_any_path_reaches_hydra_through_a_shell(name):
    name = name.replace("/", "_").replace("${", "_").strip(".") or "x"
    data = TrainingData(
        Path("/d", name), 3, has_regions=True, has_pictures=True, splits=(), n_valid_images=200
    )
    training = compose(data, output=Path("/r", name))
    words = shlex.split(training.shell)
    command = words[words.index("--config-dir") - 1 :]
    found = OverridesParser.create().parse_overrides(command[5:])
    read = {override.key_or_group: override.value() for override in found}
    assert (read["task.data"], read["hydra.run.dir"]) == (f"/d/{name}", f"/r/{name}")


@given(st.text())
def test_quotes_are_undone(text):
    assert unquoted(quoted(text)) == text


def test_a_shell_reads_the_command(tmp_path):
    training = compose(output=tmp_path / ODD)
    *variables, words = training.shell.split(" ", len(training.environment))
    program = f"{' '.join(variables)} printf '%s\\0' {words}"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split("\0")[1:-1] == training.command[1:]


@pytest.mark.parametrize("option", ["DATA", "--output", "--init"])
def test_names_that_configurations_fill_in(option):
    path = Path("/x/${y}")
    data = TrainingData(path, 3, has_regions=True, has_pictures=True, splits=(), n_valid_images=200)
    choices = {"--output": {"output": path}, "--init": {"init": path}}.get(option, {})
    with raises_fault("setting.value", option):
        compose(data if option == "DATA" else DATA, **choices)


def test_pictures_are_read_where_there_are_no_regions(tmp_path):
    folder = make_folder(
        tmp_path / "data", lengths={"train": [6000, 6300], "valid": [6000, 6000]}, n_images=2
    )
    found = training_data(folder.path)
    assert (found.n_pairs, found.has_regions, found.splits) == (2, True, ("train", "valid"))
    folder.region_features.unlink()
    found = training_data(folder.path)
    assert not found.has_regions
    with_pictures = TrainingData(
        found.path, 2, has_regions=False, has_pictures=True, splits=(), n_valid_images=200
    )
    assert values(compose(with_pictures))["model.image_encoder"] == "patches"
    assert "model.image_encoder" not in values(compose(with_pictures, overrides=("model=pictures",)))
    without = TrainingData(
        found.path, 2, has_regions=False, has_pictures=False, splits=(), n_valid_images=200
    )
    with raises_fault("file.missing", "regions.npy"):
        compose(without)


def test_data_that_is_none(tmp_path):
    with raises_fault("folder.missing", "nowhere"):
        training_data(tmp_path / "nowhere")
    (tmp_path / "mine.csv").write_text("a")
    with raises_fault("folder.missing", "mine.csv"):
        training_data(tmp_path / "mine.csv")
    with raises_fault("file.missing", "train.tsv"):
        training_data(tmp_path)
    folder = make_folder(tmp_path / "without pairs", lengths={"train": [9600], "valid": [9600]}).path
    pairs = folder / "train.pairs.tsv"
    pairs.write_text(pairs.read_text(encoding="utf-8").split("\n")[0] + "\n", encoding="utf-8")
    with raises_fault("table.empty", "train.pairs.tsv"):
        training_data(folder)


def test_second_phases_need_a_start(tmp_path):
    with raises_fault("setting.missing", "--init"):
        compose(scenario="vgs_then_w2v2")
    with raises_fault("file.missing", "none.pt"):
        compose(scenario="vgs_then_w2v2", init=tmp_path / "none.pt")


def record(run, scenario, *words):
    """Leave what a run leaves: Hydra's records and a checkpoint."""
    (run / ".hydra").mkdir(parents=True)
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "checkpoint_last.pt").write_bytes(b"PK\3\4")
    (run / ".hydra" / "overrides.yaml").write_text("".join(f"- {word}\n" for word in words))
    (run / ".hydra" / "hydra.yaml").write_text(
        f"hydra:\n  job: {{config_name: {scenario}}}\n  runtime: {{cwd: /data}}\n"
    )


def test_a_run_gives_its_size_to_the_second_phase(tmp_path):
    record(tmp_path / "first", "vgs", "task.data=/x", "model=small")
    training = compose(scenario="vgs_then_w2v2", init=tmp_path / "first")
    found = values(training)
    assert found["model"] == "small"
    assert found["checkpoint.finetune_from_model"] == str(tmp_path / "first/checkpoints/checkpoint_last.pt")


def test_a_checkpoint_in_the_top_folder_is_of_no_run(monkeypatch):
    monkeypatch.setattr("fairseq_vgs.launch.training.require_file", lambda path: None)
    training = compose(scenario="vgs_then_w2v2", init=Path("/first.pt"))
    assert values(training)["checkpoint.finetune_from_model"] == "/first.pt"


def test_the_folder_of_another_run(tmp_path):
    run = tmp_path / "run"
    record(run, "vgs_plus", "task.data='of mine'", "optimization.max_update=100", "common.cpu=false")
    compose(output=run)  # plain fairseq began it, for fewer updates, on a GPU
    for choices in (
        {"scenario": "vgs"},
        {"seed": 2},
        {"size": "small"},
        {"overrides": ("model.vgs_layer=1",)},
        {
            "data": TrainingData(
                Path("/x"), 9, has_regions=True, has_pictures=True, splits=(), n_valid_images=200
            )
        },
    ):
        with raises_fault("run.settings", "run"):
            compose(output=run, **choices)
