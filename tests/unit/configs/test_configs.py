"""The configurations are found in a checkout; tests/integration/test_installed.py installs them."""

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
