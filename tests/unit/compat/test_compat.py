"""fairseq_vgs_compat: which defaults pass, and which keep Python's check."""

import dataclasses
import fcntl
import os
import subprocess
import sys
import textwrap
import types
from pathlib import Path

import pytest

import fairseq_vgs_compat


@dataclasses.dataclass
class Inner:
    rate: float = 0.5


def make_class(module: str, bases: tuple[type, ...] = (), **attributes: object) -> type:
    """Define an undecorated class as if it stood in ``module``."""

    def fill(namespace: dict[str, object]) -> None:
        namespace.update(attributes, __module__=module)

    return types.new_class("Config", bases, exec_body=fill)


def test_fairseq_config_keeps_its_default_instance():
    default = Inner(rate=0.25)
    config = dataclasses.dataclass(
        make_class("fairseq.dataclass.configs", __annotations__={"inner": Inner}, inner=default)
    )
    assert config.__dataclass_fields__["inner"].default is default
    assert config().inner is default
    assert config.inner is default
    assert config(inner=Inner(1.0)).inner.rate == 1.0


def test_field_options_survive():
    default = Inner()
    declared = dataclasses.field(default=default, metadata={"help": "text"}, repr=False)
    config = dataclasses.dataclass(make_class("hydra.conf", __annotations__={"inner": Inner}, inner=declared))
    field = config.__dataclass_fields__["inner"]
    assert field.default is default
    assert field.metadata["help"] == "text"
    assert not field.repr


def test_class_derived_from_a_fairseq_class_is_accepted():
    base = dataclasses.dataclass(make_class("fairseq.dataclass.configs"))
    derived = dataclasses.dataclass(
        make_class("some_plugin.models", (base,), __annotations__={"inner": Inner}, inner=Inner())
    )
    assert derived().inner == Inner()


def test_default_inherited_by_a_repeated_annotation():
    default = Inner()
    base = dataclasses.dataclass(
        make_class("fairseq.dataclass.configs", __annotations__={"inner": Inner}, inner=default)
    )
    derived = dataclasses.dataclass(make_class("fairseq.x", (base,), __annotations__={"inner": Inner}))
    assert derived().inner is default


@pytest.mark.parametrize("module", ["some_plugin.models", "fairseq_other", "__main__"])
def test_other_packages_keep_the_check(module):
    with pytest.raises(ValueError, match="mutable default"):
        dataclasses.dataclass(make_class(module, __annotations__={"inner": Inner}, inner=Inner()))


@pytest.mark.parametrize("default", [[], {}, set()], ids=["list", "dict", "set"])
def test_containers_keep_the_check_in_fairseq_too(default):
    with pytest.raises(ValueError, match="mutable default"):
        dataclasses.dataclass(make_class("fairseq.x", __annotations__={"items": object}, items=default))


def test_error_of_the_original_leaves_the_declaration_as_it_was():
    default = Inner()
    declared = dataclasses.field(default=default, kw_only=True)
    broken = make_class("fairseq.x", __annotations__={"inner": "ClassVar[Inner]"}, inner=declared)
    broken.__annotations__["inner"] = __import__("typing").ClassVar[Inner]
    with pytest.raises(TypeError, match="ClassVar"):
        dataclasses.dataclass(broken)
    assert declared.default is default


def test_installing_twice_wraps_once():
    before = dataclasses._get_field
    fairseq_vgs_compat.allow_config_defaults()
    assert dataclasses._get_field is before


def test_ctrl_c_during_the_imports_of_training_is_one_line(capsys):
    others = []
    hook = fairseq_vgs_compat._interrupted_in_one_line(lambda *error: others.append(error))
    hook(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert (capsys.readouterr().err, others) == ("interrupted\n", [])
    hook(ValueError, None, None)
    assert others == [(ValueError, None, None)]


def configuration(**training):
    return types.SimpleNamespace(
        common=types.SimpleNamespace(user_dir="/x/fairseq_vgs"),
        distributed_training=types.SimpleNamespace(**{"distributed_rank": 0, **training}),
    )


@pytest.fixture
def hydra_utils(monkeypatch):
    """Hydra's module that writes settings, with what it wrote."""
    written = []
    module = types.SimpleNamespace(_save_config=lambda *arguments: written.append(arguments))
    monkeypatch.setitem(sys.modules, "hydra.core.utils", module)
    monkeypatch.setattr(os, "register_at_fork", lambda **_: None)
    fairseq_vgs_compat.install()
    yield module, written
    fairseq_vgs_compat._give_back_run_folder()


def test_settings_of_a_run_in_progress_are_not_replaced(hydra_utils, tmp_path):
    module, written = hydra_utils
    folder = tmp_path / "run" / ".hydra"
    folder.mkdir(parents=True)
    with (folder / "config.yaml").open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(SystemExit, match="another run is training in this folder") as stopped:
            module._save_config(configuration(), "config.yaml", folder)
        assert str(stopped.value).startswith(f"{tmp_path / 'run'}: ")
        assert not written
    module._save_config(configuration(), "config.yaml", folder)
    assert len(written) == 1
    with (folder / "config.yaml").open("a") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("variable", ["RANK", "SLURM_PROCID", None])
def test_other_ranks_share_the_folder_of_the_first(variable, hydra_utils, tmp_path, monkeypatch):
    module, written = hydra_utils
    with (tmp_path / "config.yaml").open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        if variable:
            monkeypatch.setenv(variable, "1")
        module._save_config(configuration(distributed_rank=0 if variable else 1), "config.yaml", tmp_path)
    assert len(written) == 1


def test_other_programs_of_hydra_are_left_alone(hydra_utils, tmp_path):
    module, written = hydra_utils
    module._save_config({"lr": 1}, "config.yaml", tmp_path)
    assert written
    assert not list(tmp_path.iterdir())


def test_unknown_python_is_left_alone(monkeypatch):
    monkeypatch.delattr(dataclasses, "_get_field")
    fairseq_vgs_compat.allow_config_defaults()
    assert not hasattr(dataclasses, "_get_field")


def test_imports_nothing_heavy():
    code = "import fairseq_vgs_compat as c, sys; c.allow_config_defaults(); print(*sys.modules)"
    root = Path(fairseq_vgs_compat.__file__).parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "fairseq", "hydra", "omegaconf", "fairseq_vgs"} & set(done.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "usage: python -m fairseq_vgs_compat"),
        (["--help"], "usage: python -m fairseq_vgs_compat"),
        (["no_such_module"], "pip install --no-deps fairseq"),
        (["json"], "expected a module with cli_main"),
    ],
)
def test_main_refuses_in_one_line(monkeypatch, arguments, message):
    monkeypatch.setattr(sys, "argv", ["fairseq_vgs_compat", *arguments])
    with pytest.raises(SystemExit, match=message) as stopped:
        fairseq_vgs_compat.main()
    assert "\n" not in str(stopped.value)


def test_main_passes_the_remaining_arguments_on(monkeypatch):
    seen = []
    module = types.ModuleType("a_command")
    module.cli_main = lambda: seen.append(sys.argv[1:])
    monkeypatch.setitem(sys.modules, "a_command", module)
    monkeypatch.setattr(sys, "argv", ["fairseq_vgs_compat", "a_command", "x=1"])
    fairseq_vgs_compat.main()
    assert seen == [["x=1"]]


def test_main_does_not_hide_a_broken_module(monkeypatch, tmp_path):
    (tmp_path / "needs_more.py").write_text("import a_package_that_is_missing\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "argv", ["fairseq_vgs_compat", "needs_more"])
    with pytest.raises(ModuleNotFoundError, match="a_package_that_is_missing"):
        fairseq_vgs_compat.main()


CONFIGS = Path(fairseq_vgs_compat.__file__).parent / "examples/vgs"
SCENARIOS = "finetune_ctc, vgs, vgs_plus, vgs_plus_then_vgs"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--config-dir", "", "--config-name", "vgs_pluss"],
            f"got 'vgs_pluss'; did you mean vgs_plus? there are {SCENARIOS}",
        ),
        (["-m", "-cn=x", "-cd", "", "model=tiny", "-c", "job"], f"got 'x'; there are {SCENARIOS}"),
        (["--config-dir", "", "model=paper"], f"got none; there are {SCENARIOS}"),
        (["--config-dir", "", "hydra.run.dir=out-here"], f"got none; there are {SCENARIOS}"),
        (["--config-dir", "", "hydra.job.name=x-h", "note=--help"], f"got none; there are {SCENARIOS}"),
        (["--config-dir", "/x/examples", "--config-name", "vgs"], "--config-dir: must be a folder"),
    ],
)
@pytest.mark.parametrize("script", ["/bin/fairseq-hydra-train", "x/fairseq_cli/hydra_train.py"])
def test_a_configuration_that_does_not_exist_is_named_before_fairseq_is_imported(
    monkeypatch, script, arguments, message
):
    words = [str(CONFIGS) if word == "" else word for word in arguments]
    monkeypatch.setattr(sys, "argv", [script, *words])
    fairseq_vgs_compat._check_command_line.cache_clear()
    with pytest.raises(SystemExit) as stopped:
        fairseq_vgs_compat.install()
    assert message in str(stopped.value)
    assert "\n" not in str(stopped.value)
    monkeypatch.setattr(sys, "argv", ["another-program", *words])
    fairseq_vgs_compat.install()
    fairseq_vgs_compat._check_command_line.cache_clear()
    # A spawned rank has this command line, but another working directory.
    monkeypatch.setattr(sys, "argv", [script, *words])
    monkeypatch.setattr(sys, "orig_argv", ["python", "-c", "spawn_main()", "--multiprocessing-fork"])
    fairseq_vgs_compat.install()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--config-dir", "", "--config-name", "w2v2.yaml"],
        ["--config-dir", "", "--config-name", "config"],  # fairseq's own
        ["--config-dir", "", "task=audio_pretraining"],
        ["--config-dir", "", "--hydra-help"],
        ["--config-dir", "", "-h"],
        ["--config-dir", "", "--help"],
        ["--config-dir", str(CONFIGS / "model")],
        ["--config-path", "/x", "--config-name", "y"],
        ["--help"],
    ],
)
def test_other_ways_of_fairseq_are_left_alone(arguments):
    fairseq_vgs_compat.check_config_name([str(CONFIGS) if word == "" else word for word in arguments])


PRIMARY = ["--config-dir", str(CONFIGS), "--config-name", "vgs_plus"]


@pytest.mark.parametrize(
    ("override", "advice"),
    [
        ("lr_scheduler=cosine", "write schedule=NAME"),
        ("+lr_scheduler=cosine", "write schedule=NAME"),
        ("lr_scheduler._name=cosine", "write schedule=NAME"),
        ("schedule=constant lr_scheduler._name=step", "write schedule=NAME"),
        ("lr_scheduler.phase_ratio=[0.1,0.4,0.5]", "must be a setting of schedule=linear (warmup_updates, "),
        ("schedule=cosine lr_scheduler.total_num_update=3", "must be a setting of schedule=cosine ("),
        ("schedule=tri_stage", "add '~lr_scheduler.warmup_updates' to the command"),
        ("optimization.lr=0.001", "write 'optimization.lr=[0.001]'"),
        ("optimizer._name=adamw", "its weight decay is AdamW's"),
        ("optimizer=AdamW", "its weight decay is AdamW's"),
    ],
)
def test_learning_rates_that_cannot_work_are_answered_with_the_right_override(override, advice):
    with pytest.raises(SystemExit) as stopped:
        fairseq_vgs_compat.check_config_name([*PRIMARY, *override.split()])
    place = override.split()[-1].lstrip("+").partition("=")[0]
    assert str(stopped.value).startswith(place if "add '~" not in advice else override)
    assert advice in str(stopped.value)
    assert "\n" not in str(stopped.value)


@pytest.mark.parametrize(
    "overrides",
    [
        "schedule=tri_stage ~lr_scheduler.warmup_updates lr_scheduler.phase_ratio=[0.2,0.3,0.5]",
        "schedule=cosine lr_scheduler.min_lr=1e-6 lr_scheduler.warmup_updates=5",
        "lr_scheduler._name=polynomial_decay lr_scheduler.power=2",
        "schedule=constant +lr_scheduler.force_anneal=5",
        "schedule=mine",  # Hydra lists those there are
        "optimization.lr=[0.001] optimizer._name=adam",
        "optimization.lr=${task.seed}",
    ],
)
def test_learning_rates_that_work_are_left_alone(overrides):
    fairseq_vgs_compat.check_config_name([*PRIMARY, *overrides.split()])
    own = [*PRIMARY[:3], "finetune_ctc", "lr_scheduler.phase_ratio=[0.1,0.4,0.5]"]
    fairseq_vgs_compat.check_config_name(own)


def test_the_module_as_a_program_checks_the_configuration():
    command = [sys.executable, "-m", "fairseq_vgs_compat", "fairseq_cli.hydra_train"]
    words = ["--config-dir", "examples/vgs", "--config-name", "vgs_pluss"]
    done = subprocess.run([*command, *words], cwd=CONFIGS.parents[1], capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("--config-name: must be a configuration of examples/vgs, got 'vgs_pluss'")


def test_only_the_first_installation_checks_the_command_line():
    """Hydra has changed the working directory when the plugin is imported, which installs again."""
    code = """
        import os, sys
        sys.argv = ["fairseq-hydra-train", "--config-dir", "examples/vgs", "--config-name", "vgs"]
        import fairseq_vgs_compat
        fairseq_vgs_compat.install()
        os.chdir("/")
        fairseq_vgs_compat.install()
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, cwd=CONFIGS.parents[1], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
