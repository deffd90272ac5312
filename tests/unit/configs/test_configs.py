"""The configurations are found in a checkout, and in what is built from it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.train import CHECKOUT

from fairseq_vgs import configs
from fairseq_vgs.cli import main
from fairseq_vgs.files.faults import FaultError

EXAMPLES = CHECKOUT / "examples" / "vgs"


def test_a_checkout_has_them_in_its_examples(capsys):
    assert configs.config_dir() == EXAMPLES
    assert main.main(["configs"]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{EXAMPLES}\n"
    assert printed.err == ""


def test_a_build_holds_a_copy(tmp_path):
    command = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(tmp_path)]
    subprocess.run(command, cwd=CHECKOUT, check=True, capture_output=True)
    built = tmp_path / "fairseq_vgs" / "configs"
    expected = {
        path.relative_to(EXAMPLES): path.read_bytes()
        for path in EXAMPLES.rglob("*.yaml")
        if path != EXAMPLES / "study.yaml"
    }
    assert {path.relative_to(built): path.read_bytes() for path in built.rglob("*.yaml")} == expected
    assert {Path("model/tiny.yaml"), Path("run_config/study.yaml")} <= expected.keys()


def test_a_build_without_them_is_refused(tmp_path):
    source = tmp_path / "source"
    (source / "fairseq_vgs").mkdir(parents=True)
    for name in ("setup.py", "fairseq_vgs_compat.py", "fairseq_vgs/__init__.py"):
        shutil.copyfile(CHECKOUT / name, source / name)
    command = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(tmp_path / "built")]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode != 0
    assert "found no base.yaml" in done.stderr


def test_a_package_without_them_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(configs, "PACKAGE", tmp_path / "a")
    with pytest.raises(FaultError) as caught:
        configs.config_dir()
    assert caught.value.codes == ("file.missing",)


def test_the_embedded_data_is_the_checkouts_or_else_the_packages(tmp_path, monkeypatch, capsys):
    assert configs.embedded_data() == CHECKOUT / "manifests" / "embedded"
    assert main.main(["configs", "--embedded"]) == 0
    assert capsys.readouterr().out == f"{CHECKOUT / 'manifests' / 'embedded'}\n"
    monkeypatch.setattr(configs, "PACKAGE", tmp_path / "a")
    assert configs.embedded_data() == tmp_path / "a" / "embedded"
