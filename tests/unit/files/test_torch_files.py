"""What is no file of torch is called what it is."""

import gzip

import pytest
import torch
from support.faults import raises_fault

from fairseq_vgs.files.torch_files import refuse_other_files, require_file


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"\n<!DOCTYPE html><html><body>403</body></html>", "a web page"),
        (b'{"error": "not found"}', "a JSON file"),
        (gzip.compress(b"x", mtime=0), "a gzip archive"),
    ],
    ids=range(5),
)
def test_other_files_are_named(content, what, tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with raises_fault("checkpoint.kind", str(path)) as caught:
        refuse_other_files(path)
    assert what in str(caught.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_torch_pass(zipped, tmp_path):
    torch.save({"model": {}}, tmp_path / "model.pt", _use_new_zipfile_serialization=zipped)
    refuse_other_files(tmp_path / "model.pt")


def test_a_run_folder_is_answered_with_its_checkpoint(tmp_path):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / "checkpoint_last.pt").touch()
    for place in (tmp_path, folder):
        with raises_fault("checkpoint.kind", str(place)) as caught:
            require_file(place)
        assert str(folder / "checkpoint_last.pt") in str(caught.value)
    with raises_fault("file.missing", "none.pt"):
        require_file(tmp_path / "none.pt")
