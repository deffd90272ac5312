"""Ways to get at the plugin: installed, not installed, named as user_dir, without fairseq."""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
# as where the package is not installed
WITHOUT_HOOK = """
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__module__ != "fairseq_vgs_hook"]
"""


def run_python(*arguments, cwd=CHECKOUT, **environment):
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    return done.returncode, done.stdout.strip(), done.stderr


def run_code(code, **settings):
    return run_python("-c", textwrap.dedent(code), **settings)


def test_without_fairseq_the_parts_that_do_not_need_it_work():
    status, output, errors = run_code("""
        import sys
        sys.modules["fairseq"] = None  # as if it were not installed
        import fairseq_vgs.manifest, fairseq_vgs.prepare, fairseq_vgs.modules, fairseq_vgs.losses
        from fairseq_vgs.compat.availability import require_fairseq
        try:
            require_fairseq()
        except ImportError as error:
            print(error)
    """)
    assert status == 0, errors
    assert output.splitlines() == [output]
    assert "fairseq: must be an installed package" in output
    assert "pip install --no-deps fairseq==0.12.2" in output


def test_importing_the_plugin_says_nothing(tmp_path):
    """fairseq's advice to install tensorboardX would stand first in every command's output."""
    code = """
        import logging
        import fairseq_vgs, fairseq.tasks.text_to_speech
        print(logging.getLogger("fairseq.tasks.text_to_speech").level)
    """
    status, output, errors = run_code(code, cwd=tmp_path)
    assert (status, output, errors) == (0, "0", "")


def test_the_hook_makes_fairseq_importable(tmp_path):
    code = "import fairseq; from fairseq.dataclass.configs import FairseqConfig as F; print(F().common.seed)"
    status, output, errors = run_code(code, cwd=tmp_path)
    assert (status, output) == (0, "1"), errors


def test_official_fairseq_needs_the_compatibility_layer(tmp_path):
    """Should this fail, fairseq or Python has changed and the layer may go."""
    status, _, errors = run_code(f"{WITHOUT_HOOK}import fairseq", cwd=tmp_path)
    assert status != 0
    assert "mutable default" in errors


def test_checkout_on_the_path_without_installation(tmp_path):
    # Hydra's --help would take a quarter of a minute
    code = f"{WITHOUT_HOOK}import runpy; runpy.run_module('fairseq_vgs_compat', run_name='__main__')"
    arguments = ["-c", code, "fairseq_cli.hydra_train", "--version"]
    status, output, errors = run_python(*arguments, cwd=tmp_path, PYTHONPATH=str(CHECKOUT))
    assert status == 0, errors
    assert output.startswith("Hydra ")


def test_user_dir_beside_an_installed_copy(tmp_path):
    """The copy named as user_dir is the one in use; naming it twice, or through a link, changes nothing."""
    copy = tmp_path / "a copy" / "fairseq_vgs"
    shutil.copytree(CHECKOUT / "fairseq_vgs", copy, ignore=shutil.ignore_patterns("__pycache__"))
    link = tmp_path / "link" / "fairseq_vgs"
    link.parent.mkdir()
    link.symlink_to(copy)
    code = """
        import sys
        from argparse import Namespace
        from pathlib import Path
        from fairseq import utils
        from fairseq.tasks import TASK_REGISTRY
        for user_dir in sys.argv[1:]:
            utils.import_user_module(Namespace(user_dir=user_dir))
        import fairseq_vgs
        same = Path(fairseq_vgs.__file__).parent == Path(sys.argv[1])
        print(same, "vgs_pretraining" in TASK_REGISTRY)
    """
    status, output, errors = run_python("-c", textwrap.dedent(code), copy, link, copy, cwd=tmp_path)
    assert (status, output) == (0, "True True"), errors


def test_folder_under_another_name_is_refused_in_one_line(tmp_path):
    (tmp_path / "my_plugin").mkdir()
    shutil.copy(CHECKOUT / "fairseq_vgs" / "__init__.py", tmp_path / "my_plugin")
    status, _, errors = run_code("import my_plugin", cwd=tmp_path)
    assert status != 0
    assert errors.splitlines()[-1].startswith("ImportError: common.user_dir: expected the plugin's folder")


def run_script(name, *arguments, cwd="/"):
    return subprocess.run(
        ["bash", CHECKOUT / "examples" / "vgs" / name, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        timeout=60,
    )


@pytest.mark.parametrize("argument", ["--nonsense", "dev"])
def test_set_up_script_explains_wrong_arguments(argument):
    done = run_script("setup_environment.sh", argument)
    assert done.returncode == 2
    assert done.stderr.startswith(f"set-up: expected no argument or --dev, got '{argument}'\n")
    assert "setup_environment.sh --dev" in done.stderr


@pytest.mark.parametrize("script", ["quickstart.sh", "setup_environment.sh"])
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_scripts_have_help(script, option, tmp_path):
    """It is the script's head comment, and nothing is started."""
    done = run_script(script, option, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"bash examples/vgs/{script}" in done.stdout
    assert not any(line.startswith(("#", "set ")) for line in done.stdout.splitlines())
    assert list(tmp_path.iterdir()) == []


def test_quickstart_refuses_options_it_does_not_have(tmp_path):
    done = run_script("quickstart.sh", "--nonsense", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "quickstart.sh [OUTPUT]" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def checkout_copy(tmp_path):
    """Make a folder with what the set-up script needs and a space in its name."""
    folder = tmp_path / "check out"
    (folder / "examples" / "vgs").mkdir(parents=True)
    names = [
        "setup.py",
        "pyproject.toml",
        "constraints.txt",
        "constraints-build.txt",
        "requirements-fairseq.txt",
    ]
    modules = ["fairseq_vgs_compat.py", "fairseq_vgs_hook.py"]
    for name in [*names, *modules, "examples/vgs/setup_environment.sh"]:
        shutil.copy(CHECKOUT / name, folder / name)
    shutil.copytree(
        CHECKOUT / "fairseq_vgs", folder / "fairseq_vgs", ignore=shutil.ignore_patterns("__pycache__")
    )
    return folder


def set_up(folder, **environment):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("VGS_")}
    return subprocess.run(
        ["bash", folder / "examples" / "vgs" / "setup_environment.sh"],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"VGS_PYTHON": "no-such-python"}, "VGS_PYTHON: expected Python 3.11 or later, got 'no-such-python'"),
        (
            {"VGS_CONSTRAINTS": "none.txt"},
            "VGS_CONSTRAINTS: expected a file of pip constraints, got 'none.txt'",
        ),
    ],
)
def test_set_up_script_explains_wrong_settings(checkout_copy, environment, message):
    done = set_up(checkout_copy, **environment)
    assert done.returncode == 1
    assert message in done.stderr


def test_set_up_script_explains_an_old_python(checkout_copy, tmp_path):
    (tmp_path / "bin").mkdir()
    for name in ["python3", "python3.11", "python3.12", "python3.13", "python"]:
        script = tmp_path / "bin" / name
        script.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.1\nexit 1\n')
        script.chmod(0o755)
    done = set_up(checkout_copy, PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert done.returncode == 1
    assert "set-up: expected Python 3.11 or later, found Python 3.9.1" in done.stderr
    assert not (checkout_copy / ".venv").exists()


def test_set_up_script_leaves_an_environment_behind_a_link_alone(checkout_copy, tmp_path):
    """One that belongs to another checkout."""
    environment = tmp_path / "environment"
    environment.mkdir()
    (environment / "fairseq_vgs_installed").write_text("fingerprint\n/another/checkout\n", encoding="utf-8")
    (checkout_copy / ".venv").symlink_to(environment)
    done = set_up(checkout_copy)
    assert done.returncode == 1
    assert (
        f"set-up: expected .venv to be a folder of this checkout, got a link to {environment}" in done.stderr
    )
    assert [path.name for path in environment.iterdir()] == ["fairseq_vgs_installed"]


@pytest.mark.slow
@pytest.mark.fresh_environment
@pytest.mark.skipif(
    os.environ.get("VGS_FRESH_ENVIRONMENT") != "1", reason="takes minutes; set VGS_FRESH_ENVIRONMENT=1"
)
def test_fresh_environment(checkout_copy):
    first = set_up(checkout_copy)
    assert first.returncode == 0, first.stderr
    assert "compiling fairseq 0.12.2" in first.stderr
    assert set_up(checkout_copy).stderr == ""
    command = checkout_copy / ".venv" / "bin" / "fairseq-hydra-train"
    done = subprocess.run([command, "--help"], capture_output=True, text=True, check=True)
    assert "powered by Hydra" in done.stdout
