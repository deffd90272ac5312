"""What a study checks before anything runs."""

import shutil
from collections import namedtuple

import pytest
from support.faults import raises_fault
from support.train import CHECKOUT, EMBEDDED

from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.study.check import check_study
from fairseq_vgs.study.plan import StudyFolder
from fairseq_vgs.study.settings import StudySettings

EXAMPLES = CHECKOUT / "examples" / "vgs"


@pytest.fixture
def check(tmp_path):
    """Check a study of one scenario with some settings changed."""

    def check(**changes):
        base = {"data": str(EMBEDDED), "scenarios": ["vgs"], "seeds": [1, 2]}
        updates = {"whole_updates": 20, "evaluate_every": 10, "config_dir": str(EXAMPLES)}
        return check_study(
            StudySettings(**{**base, **updates, **changes}),
            StudyFolder(tmp_path / "out"),
            tmp_path / "study.yaml",
        )

    return check


def test_size_of_the_checkpoints(check, tmp_path, monkeypatch):
    needed = check(abx=str(EMBEDDED / "abx"))
    n_files = 2 * (2 + 3)
    assert 12e6 < needed / n_files < 15e6  # a tiny model with Adam's moments
    assert not (tmp_path / "out").exists()

    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(needed - 1))
    with pytest.raises(FaultError) as caught:
        check(split="train")  # to be measured on it is no fault
    assert [(one.code, one.place) for one in caught.value.faults] == [("output.full", str(tmp_path / "out"))]


def test_code_in_overrides_is_refused_by_name(check, tmp_path):
    """Whatever fairseq passes to eval: of the model, which the task reads too, and of the optimiser."""
    code = f"__import__('pathlib').Path('{tmp_path / 'ran'}').touch()"
    for key, told in (("model.conv_feature_layers", "value"), ("optimizer.adam_betas", "refused")):
        with raises_fault(f"setting.{told}", key):
            check(overrides=[f'{key}="{code}"'])
    assert not (tmp_path / "ran").exists()


def test_everything_wrong_is_named_once(check, tmp_path):
    abx = tmp_path / "abx"
    abx.mkdir()
    shutil.copy(EMBEDDED / "abx" / "triphone.item", abx)
    (tmp_path / "start.pt").write_bytes(b"<html>")
    start = f"checkpoint.finetune_from_model={tmp_path / 'start.pt'}"
    with pytest.raises(FaultError) as caught:
        check(abx=str(abx), overrides=[start])
    assert [(one.code, one.place) for one in caught.value.faults] == [
        ("folder.empty", str(abx)),
        ("checkpoint.kind", str(tmp_path / "start.pt")),
    ]
    with pytest.raises(FaultError) as caught:
        check(split="tset")
    assert [one.place for one in caught.value.faults] == [str(EMBEDDED / "tset.tsv")]
    with raises_fault("setting.unknown", "model.nonsense"):
        check(overrides=["model.nonsense=1"])


def test_words_are_read_if_they_are_there(check, tmp_path):
    words = tmp_path / "words"
    with raises_fault("file.missing", str(tmp_path / "study.yaml")):
        check(lexical=str(words))
    with raises_fault("file.missing", str(tmp_path / "study.yaml")):
        check(lexical="{output}/words")
    assert check(lexical="{output}/words", prepare_lexical=["scenes", "{output}/words"]) > 0
    write_words(words, ["кот", "кот, дом"])
    with raises_fault("recording.word", "test.tsv:3"):
        check(lexical=str(words))
    write_words(words, ["кот", "кот"])
    assert check(lexical=str(words)) > 0


def write_words(folder, texts):
    """Write a data folder whose recordings have these texts; the sound is not read."""
    folder.mkdir(exist_ok=True)
    rows = [f"{number}.wav\t16000" for number in range(len(texts))]
    (folder / "test.tsv").write_text("\n".join([str(folder), *rows]) + "\n", encoding="utf-8")
    lines = [f"{number}.wav\tanna\t{text}" for number, text in enumerate(texts)]
    table = folder / "test.utterances.tsv"
    table.write_text("\n".join(["audio_id\tspeaker\ttext", *lines]) + "\n", encoding="utf-8")


def test_an_output_that_cannot_be_written(check, tmp_path):
    (tmp_path / "out").write_text("a file")
    with raises_fault("output.unwritable", "out"):
        check()
