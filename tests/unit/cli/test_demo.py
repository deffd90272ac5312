"""fairseq-vgs demo: what it refuses, in one line, before the page is served."""

from __future__ import annotations

import os
import socket
import sys

import pytest
from PIL import Image
from support.tiny_checkpoint import save_tiny
from support.tiny_folder import make_folder

from fairseq_vgs.cli import demo
from fairseq_vgs.cli.main import main
from fairseq_vgs.configs import embedded_data
from fairseq_vgs.demo import server
from fairseq_vgs.demo.about import ONE_VOICE

TEXT = {"caption_encoder": "text", "text_vocabulary": 9, "text_units_sha256": "0"}


@pytest.fixture(autouse=True)
def keep_environment(monkeypatch):
    for name in ("GRADIO_ANALYTICS_ENABLED", "GRADIO_TEMP_DIR", "no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, os.environ.get(name, ""))


@pytest.fixture
def data(tmp_path):
    return make_folder(tmp_path / "data", lengths={"test": [6000, 7000]}, n_images=2).path


@pytest.fixture
def served(monkeypatch):
    """Serve nothing; remember the pages."""
    pages = []
    monkeypatch.setattr(server, "serve", lambda page, _gradio, **how: pages.append((page, how)))
    return pages


def run(*arguments):
    return main(["demo", *map(str, arguments), "--port", "0", "--device", "cpu"])


def refused(capsys, code, *arguments):
    """Return the one line of an error; the code is that of the fault."""
    capsys.readouterr()
    assert run(*arguments) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    with pytest.raises(ValueError) as caught:
        main(["demo", *map(str, arguments), "--port", "0", "--device", "cpu", "--debug"])
    assert caught.value.codes == (code,)
    assert str(caught.value) == line
    return line


def test_a_page_is_served(data, tmp_path, served, capsys):
    pytest.importorskip("gradio")
    assert run(save_tiny(tmp_path / "model.pt"), data) == 0
    ((page, how),) = served
    assert (how["host"], how["open_browser"]) == ("127.0.0.1", False)
    labels = [part["props"].get("label") for part in page.get_config_file()["components"]]
    assert {"Speak, find pictures", "Or choose a caption", "Show a picture, hear captions"} <= set(labels)
    assert "everybody" not in capsys.readouterr().err
    assert run(tmp_path / "model.pt", data, "--host", "0.0.0.0") == 0
    assert "everybody" in capsys.readouterr().err


def test_before_anything_is_trained(served, tmp_path, monkeypatch):
    """The model that comes with the package, on the embedded data, with what it can do said."""
    pytest.importorskip("gradio")
    monkeypatch.chdir(tmp_path)
    assert run("quickstart") == 0
    ((page, _),) = served
    shown = str(page.get_config_file())
    assert "trained on 3,000 captions of 1,500 pictures" in shown
    assert "searches 42 pictures and 42 captions" in shown
    assert ONE_VOICE in shown


def test_a_taken_port(data, tmp_path, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command = ["demo", str(tmp_path / "none.pt"), str(data), "--port", str(taken.getsockname()[1])]
        assert main(command) == 1
    assert "choose another with --port" in capsys.readouterr().err


def test_without_gradio(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    line = refused(capsys, "package.missing", save_tiny(tmp_path / "model.pt"), data)
    assert "fairseq_vgs[demo]" in line


def test_paths_that_lead_nowhere(data, tmp_path, capsys):
    model = save_tiny(tmp_path / "model.pt")
    assert str(tmp_path / "none") in refused(capsys, "file.missing", tmp_path / "none", data)
    assert str(tmp_path / "none") in refused(capsys, "file.missing", model, tmp_path / "none")
    assert str(model) in refused(capsys, "file.missing", model, model)
    (tmp_path / "empty").mkdir()
    refused(capsys, "model.kind", tmp_path / "empty", data)
    refused(capsys, "folder.empty", model, tmp_path / "empty")
    refused(capsys, "split.unknown", model, data, "--split", "train")


def test_models_of_text(data, tmp_path, capsys):
    line = refused(capsys, "model.text", save_tiny(tmp_path / "text.pt", **TEXT), data)
    assert "speech" in line


def test_a_model_of_regions_on_a_folder_of_pictures(tmp_path, served, capsys):
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (40, 30), "red").save(tmp_path / "pictures" / "a.png")
    model = save_tiny(tmp_path / "model.pt")
    line = refused(capsys, "regions.unknown", model, tmp_path / "pictures")
    assert "--regions" in line
    assert served == []


def test_the_data_of_the_training_is_searched_or_else_the_embedded(data, tmp_path):
    from fairseq_vgs.api.load import load

    trained = load(save_tiny(tmp_path / "model.pt", task={"data": str(data)}), "cpu")
    assert demo._default_data(trained) == data
    gone = load(save_tiny(tmp_path / "gone.pt", task={"data": str(tmp_path / "gone")}), "cpu")
    assert demo._default_data(gone) == embedded_data()
