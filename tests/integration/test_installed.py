"""What a wheel installs, away from its checkout: content, the hook, and what needs no fairseq."""

import os
import shutil
import subprocess
import sys
import textwrap
import zipfile

import pytest
from support.train import CHECKOUT, EMBEDDED

EXAMPLES = CHECKOUT / "examples" / "vgs"
LARGEST_WHEEL = 25_000_000
SITE = [path for path in sys.path if path.endswith("site-packages")]
# fairseq's trouble with Python 3.11, in small
FAKE_FAIRSEQ = """
from dataclasses import dataclass
@dataclass
class Inner:
    rate: float = 0.5
@dataclass
class Config:
    inner: Inner = Inner()
"""


def build(folder, *command):
    """Run setup.py; all that it writes is in a folder."""
    base = ["egg_info", "--egg-base", str(folder), "build", "--build-base", str(folder / "build")]
    words = [sys.executable, "setup.py", "-q", *base, *command, "--dist-dir", str(folder / "dist")]
    done = subprocess.run(words, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = (folder / "dist").glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build(tmp_path_factory.mktemp("wheel"), "bdist_wheel")


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory):
    """Unpack the wheel as pip does."""
    folder = tmp_path_factory.mktemp("ä b") / "site-packages"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run_python(site, code, *, cwd, first=()):
    """Run code where ``site`` is the only folder whose ``.pth`` files Python executes."""
    paths = [*first, site, *SITE]
    lines = ["import site, sys", f"site.addsitedir({str(site)!r})", textwrap.dedent(code)]
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    settings = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(map(str, paths))}
    done = subprocess.run(
        [sys.executable, "-S", "-c", "\n".join(lines)],
        cwd=cwd,
        env={**inherited, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout.splitlines(), done.stderr


def contents(folder, suffix=""):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob(f"*{suffix}")
        if path.is_file()
    }


def test_the_wheel_holds_configurations_data_and_split_lists(wheel, site):
    assert contents(site / "fairseq_vgs" / "configs", ".yaml") == contents(EXAMPLES, ".yaml")
    assert contents(site / "fairseq_vgs" / "embedded") == contents(EMBEDDED)
    for part in ("prepare/corpora/splits", "checkpoints/shipped/quickstart"):
        assert contents(site / "fairseq_vgs" / part) == contents(CHECKOUT / "fairseq_vgs" / part)
    assert wheel.stat().st_size <= LARGEST_WHEEL


def test_the_wheel_has_no_part_in_the_import_of_torch(site):
    (entry_points,) = site.glob("*.dist-info/entry_points.txt")
    assert entry_points.read_text() == "[console_scripts]\nfairseq-vgs = fairseq_vgs.cli.main:main\n"


def test_an_editable_installation_has_its_own_copy_of_the_hook(site, tmp_path):
    with zipfile.ZipFile(build(tmp_path, "editable_wheel")) as archive:
        for name in ("fairseq_vgs.pth", "fairseq_vgs_hook.py"):
            assert archive.read(name) == (site / name).read_bytes()
        assert "fairseq_vgs/__init__.py" not in archive.namelist()


def test_a_build_without_the_data_is_refused(tmp_path):
    source = tmp_path / "source"
    (source / "fairseq_vgs").mkdir(parents=True)
    for name in ("setup.py", "fairseq_vgs_compat.py", "fairseq_vgs/__init__.py"):
        shutil.copyfile(CHECKOUT / name, source / name)
    command = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(tmp_path / "built")]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode != 0
    assert "found no base.yaml" in done.stderr


def test_at_start_the_hook_imports_itself_alone(site, tmp_path):
    code = """
        print(*sorted(set(sys.modules) - before))
        print(type(sys.meta_path[0]).__name__)
    """
    (tmp_path / "nothing").mkdir()
    # Python 3.13 reads every .pth file with this codec
    before = f"import encodings.utf_8_sig\nbefore = set(sys.modules)\nsite.addsitedir({str(site)!r})\n"
    code = before + textwrap.dedent(code)
    status, output, errors = run_python(tmp_path / "nothing", code, cwd=tmp_path, first=[site])
    assert (status, output, errors) == (0, ["fairseq_vgs_hook", "_BeforeFairseq"], "")


@pytest.fixture
def fake(tmp_path):
    """A folder with a package called fairseq."""
    (tmp_path / "fake" / "fairseq").mkdir(parents=True)
    (tmp_path / "fake" / "fairseq" / "__init__.py").write_text(FAKE_FAIRSEQ)
    return tmp_path / "fake"


def test_the_hook_acts_when_fairseq_is_imported_and_not_before(site, fake, tmp_path):
    code = """
        import dataclasses, json, fractions
        print("fairseq_vgs_compat" in sys.modules, hasattr(dataclasses._get_field, "__wrapped__"))
        import fairseq
        print(fairseq.Config().inner.rate, hasattr(dataclasses._get_field, "__wrapped__"))
        print(any(name in sys.modules for name in ("torch", "fairseq_vgs")))
    """
    status, output, errors = run_python(site, code, cwd=tmp_path, first=[fake])
    assert (status, output, errors) == (0, ["False False", "0.5 True", "False"], "")


def test_a_moved_checkout_breaks_nothing_but_what_needs_it(site, fake, tmp_path):
    """An editable installation whose checkout is gone: its hook is left, its modules are not."""
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("fairseq_vgs.pth", "fairseq_vgs_hook.py"):
        shutil.copyfile(site / name, moved / name)
    (fake / "fairseq" / "__init__.py").write_text("print('imported')")
    code = """
        import json
        print("started")
        sys.stderr.write("before|")
        import fairseq, fairseq
    """
    status, output, errors = run_python(moved, code, cwd=tmp_path, first=[fake])
    assert (status, output) == (0, ["started", "imported"]), errors
    assert errors.startswith("before|fairseq_vgs: ")
    assert errors.count("\n") == 1
    assert "its checkout was moved or deleted; install fairseq_vgs again" in errors


@pytest.mark.parametrize("damage", ["raise RuntimeError('broken')", "this is no Python", None])
def test_a_damaged_hook_does_not_stop_python(site, tmp_path, damage):
    moved = tmp_path / "damaged"
    moved.mkdir()
    shutil.copyfile(site / "fairseq_vgs.pth", moved / "fairseq_vgs.pth")
    if damage is not None:
        (moved / "fairseq_vgs_hook.py").write_text(damage)
    assert run_python(moved, "print('started')", cwd=tmp_path) == (0, ["started"], "")


def test_a_failing_compatibility_layer_is_one_line(site, fake, tmp_path):
    (fake / "fairseq_vgs_compat.py").write_text("def install():\n    raise OSError('no disk')\n")
    (fake / "fairseq" / "__init__.py").write_text("print('imported')")
    status, output, errors = run_python(site, "import fairseq", cwd=tmp_path, first=[fake])
    assert (status, output, errors.count("\n")) == (0, ["imported"], 1)
    assert "OSError('no disk')" in errors


def test_configurations_name_the_installed_plugin_and_data_from_any_folder(site, fake, tmp_path):
    code = """
        import importlib.util
        importlib.util.find_spec("fairseq")
        from omegaconf import OmegaConf
        from fairseq_vgs.configs import config_dir, embedded_data
        base, data = (OmegaConf.load(config_dir() / name) for name in ("base.yaml", "data/embedded.yaml"))
        print(base.common.user_dir, data.task.data, config_dir(), embedded_data(), sep="\\n")
    """
    status, output, errors = run_python(site, code, cwd=tmp_path, first=[fake])
    assert status == 0, errors
    package = site / "fairseq_vgs"
    data = package / "embedded"
    assert output == [str(path) for path in (package, data, package / "configs", data)]


def test_preparing_and_checking_need_no_fairseq(site, tmp_path):
    code = """
        sys.modules["fairseq"] = None  # as if it were not installed
        from fairseq_vgs.cli.main import main
        from fairseq_vgs.configs import embedded_data
        sizes = ["--train-scenes", "3", "--valid-scenes", "2", "--test-scenes", "2", "--objects", "12"]
        print(main(["prepare", "scenes", "scénes (1)", *sizes]), main(["check", "scénes (1)"]))
        print(main(["check", str(embedded_data()), "--no-media"]), "torch" in sys.modules)
    """
    status, output, errors = run_python(site, code, cwd=tmp_path)
    assert (status, output[-2:]) == (0, ["0 0", "0 False"]), errors


def test_the_model_that_comes_with_it_needs_no_fairseq(site, tmp_path):
    code = """
        sys.modules["fairseq"] = None  # as if it were not installed
        import numpy as np
        import fairseq_vgs as vgs
        model = vgs.load("quickstart", "cpu")
        noise = np.random.default_rng(1).normal(size=16000).astype("float32") / 10
        print(model.path, model.layers((noise, 16000))[4].shape)
    """
    status, output, errors = run_python(site, code, cwd=tmp_path)
    weights = site / "fairseq_vgs/checkpoints/shipped/quickstart/model.safetensors"
    assert (status, output) == (0, [f"{weights} (49, 128)"]), errors


def run_there(command, folder):
    """Run a command in a folder, with nothing of this environment."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PATH")}
    done = subprocess.run(
        ["bash", "-euc", command],
        cwd=folder,
        env={**inherited, "PATH": f"{folder}/my env/bin:/usr/local/bin:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


STUDY = """
data: "{embedded}"
whole_updates: 4
evaluate_every: 2
scenarios: [vgs]
seeds: [1]
abx: "{embedded}/abx"
overrides: [run_config=cpu]
"""


@pytest.mark.slow
@pytest.mark.fresh_environment
@pytest.mark.skipif(
    os.environ.get("VGS_FRESH_ENVIRONMENT") != "1", reason="takes minutes; set VGS_FRESH_ENVIRONMENT=1"
)
def test_fresh_environment_without_a_checkout(wheel, tmp_path):
    """The commands of docs/install.md, in a folder that holds nothing but the wheel."""
    folder = tmp_path / "zoë's (1)"
    folder.mkdir()
    shutil.copy(wheel, folder)
    shutil.copyfile(CHECKOUT / "constraints.txt", tmp_path / "constraints.txt")
    run_there(f"'{sys.executable}' -m venv 'my env'", folder)
    run_there("pip install --quiet -c ../constraints.txt fairseq_vgs-*.whl", folder)
    sizes = "--train-scenes 40 --valid-scenes 10 --test-scenes 10"
    run_there(f"fairseq-vgs prepare scenes 'dätä 1' {sizes}; fairseq-vgs check 'dätä 1'", folder)
    run_there("pip install --quiet --no-deps fairseq==0.12.2", folder)
    train = 'fairseq-hydra-train --config-dir "$(fairseq-vgs configs)" --config-name vgs_plus'
    run_there(f"""{train} "task.data='dätä 1'" hydra.run.dir=run optimization.max_update=4""", folder)
    run_there(f"{train} hydra.run.dir=run2 optimization.max_update=4", folder)  # the embedded data
    checkpoint = "run/checkpoints/checkpoint_last.pt"
    told = run_there(f"fairseq-vgs evaluate retrieval {checkpoint} 'dätä 1' --output 'ré sults'", folder)
    assert "R@10" in told
    (folder / "mine.yaml").write_text(STUDY)
    run_there("fairseq-vgs study mine.yaml --output 'my study'", folder)
    assert (folder / "my study" / "report.html").is_file()
    run_there('fairseq-vgs study "$(fairseq-vgs configs)/study.yaml" --dry-run', folder)
    run_there("pip uninstall --quiet --yes fairseq_vgs; python -c pass", folder)
    assert not list(folder.glob("my env/lib/*/site-packages/fairseq_vgs*"))
