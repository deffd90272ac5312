import hashlib
import json

import pytest
from fairseq.data import Dictionary
from support.faults import raises_fault

from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.manifest import (
    AudioRow,
    ManifestFolder,
    PairRow,
    UtteranceRow,
    read_audio_list,
    write_utterances,
)
from fairseq_vgs.manifest.tables import write_audio_list, write_pairs
from fairseq_vgs.prepare.text import TextConfig, prepare_text, train_units

TEXTS = {
    "train": ["Пёс", "Большой пёс", "", "Серая кошка!"],
    "valid": ["кошка", "щука", " "],
}


def write_folder(path, texts=TEXTS, *, root="."):
    """Pair tables and audio lists in another order; each list ends with an utterance in no pair."""
    folder = ManifestFolder(path)
    for split, captions in texts.items():
        rows = [AudioRow(f"{split}/{i}.wav", 1600 + i) for i in range(len(captions) + 1)]
        write_audio_list(folder.audio_list(split), rows, root=root)
        pairs = [PairRow(f"{split}/{i}.wav", "image", "", text) for i, text in enumerate(captions)]
        write_pairs(folder.pairs(split), reversed(pairs))
    return path


def lines(path):
    return path.read_text(encoding="utf-8").splitlines()


def contents(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_labels_stand_in_the_order_of_the_audio_list(tmp_path):
    summary = prepare_text(write_folder(tmp_path / "data"))
    text = tmp_path / "data" / "text"
    assert lines(text / "train.ltr") == ["▁ п ё с", "▁ б о л ь ш о й ▁ п ё с", "▁ с е р а я ▁ к о ш к а !"]
    listed = read_audio_list(text / "train.tsv")
    assert [row.audio_id for row in listed.rows] == ["train/0.wav", "train/1.wav", "train/3.wav"]
    assert [row.n_samples for row in listed.rows] == [1600, 1601, 1603]
    assert lines(text / "train.tsv")[0] == str(tmp_path / "data")  # absolute, for stock fairseq
    assert lines(text / "valid.ltr") == ["▁ к о ш к а", "▁ щ у к а"]
    assert summary["splits"]["train"] == {"utterances": 3, "hours": 0.0, "units": 29}
    excluded = summary["excluded"]["utterances without text"]
    assert excluded["count"] == 4
    assert excluded["splits"]["valid"] == {"count": 2, "first": ["valid/2.wav", "valid/3.wav"]}
    assert json.loads((text / "summary.json").read_text(encoding="utf-8"))["splits"] == summary["splits"]


def test_fairseq_reads_the_dictionary(tmp_path):
    prepare_text(write_folder(tmp_path / "data"), tmp_path / "text")
    dictionary = Dictionary.load(str(tmp_path / "text" / "dict.ltr.txt"))
    for line in lines(tmp_path / "text" / "train.ltr"):
        encoded = dictionary.encode_line(line, append_eos=False, add_if_not_exist=False)
        assert len(encoded) == len(line.split(" "))
        assert dictionary.unk() not in encoded.tolist()
        assert dictionary.string(encoded) == line
    other = dictionary.encode_line("щ у", append_eos=False, add_if_not_exist=False).tolist()
    assert other[0] == dictionary.unk()  # a letter of the validation split alone
    counts = dict(line.rsplit(" ", 1) for line in lines(tmp_path / "text" / "dict.ltr.txt"))
    assert counts["п"] == "2"
    assert counts["▁"] == "5"


@pytest.mark.parametrize("unit_type", ["char", "unigram", "bpe"])
def test_the_same_texts_give_the_same_bytes(tmp_path, unit_type):
    data = write_folder(tmp_path / "data")
    config = TextConfig(unit_type=unit_type, vocabulary_size=17)
    for name in ("one", "two"):
        prepare_text(data, tmp_path / name, config=config)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    joined = "".join(lines(tmp_path / "one" / "train.ltr")[1].split(" "))
    assert joined == "▁большой▁пёс"


def test_normalization_is_a_choice(tmp_path):
    data = write_folder(tmp_path / "data")
    prepare_text(data, tmp_path / "text", config=TextConfig(normalization="nmt_nfkc"))
    assert lines(tmp_path / "text" / "train.ltr")[0] == "▁ П ё с"


def test_impossible_vocabulary_is_explained(tmp_path):
    data = write_folder(tmp_path / "data")
    config = TextConfig(unit_type="unigram", vocabulary_size=5000)
    with raises_fault("text.units"):
        prepare_text(data, config=config)
    assert not (data / "text").exists()
    assert [path.name for path in data.iterdir() if path.name.startswith(".")] == []


def test_units_with_blanks_are_refused():
    """fairseq would take such a unit for two."""
    with raises_fault("text.units"):
        train_units(["a\u00a0b"], TextConfig(normalization="identity"))


def test_no_texts(tmp_path):
    data = write_folder(tmp_path / "data", {"train": ["", ""], "valid": ["пёс"]})
    with raises_fault("text.missing", "train.pairs.tsv"):
        prepare_text(data)
    with raises_fault("text.missing"):
        prepare_text(data, config=TextConfig(train_split="absent"))


def test_transcripts_of_speech_without_pictures(tmp_path):
    data = write_folder(tmp_path / "data")
    folder = ManifestFolder(data)
    folder.pairs("valid").unlink()
    write_utterances(folder.utterances("valid"), [UtteranceRow("valid/2.wav", "ann", "Кошка")])
    write_utterances(folder.utterances("train"), [UtteranceRow("train/4.wav", "ann", "рак")])
    summary = prepare_text(data)
    assert lines(data / "text" / "train.ltr")[-1] == "▁ р а к"
    assert [row.audio_id for row in read_audio_list(data / "text" / "valid.tsv").rows] == ["valid/2.wav"]
    assert lines(data / "text" / "valid.ltr") == ["▁ к о ш к а"]
    assert summary["excluded"]["utterances without text"]["count"] == 4


def test_every_faulty_table_is_named(tmp_path):
    data = write_folder(tmp_path / "data")
    for split in TEXTS:
        table = data / f"{split}.pairs.tsv"
        table.write_text(table.read_text(encoding="utf-8") + "too few\n", encoding="utf-8")
    with pytest.raises(FaultError) as caught:
        prepare_text(data)
    assert [fault.place for fault in caught.value.faults] == ["train.pairs.tsv:6", "valid.pairs.tsv:5"]


def test_an_older_folder_is_replaced_with_force_only(tmp_path):
    data = write_folder(tmp_path / "data")
    prepare_text(data)
    with raises_fault("output.exists", "text"):
        prepare_text(data)
    prepare_text(data, config=TextConfig(normalization="nmt_nfkc"), force=True)
    assert lines(data / "text" / "train.ltr")[0] == "▁ П ё с"


def test_the_data_themselves_are_never_replaced(tmp_path):
    data = write_folder(tmp_path / "sets/data")
    for folder in (data, data.parent):
        (folder / "summary.json").write_text('{"made_by": "fairseq-vgs prepare", "corpus": "text"}')
        with raises_fault("output.is_input"):
            prepare_text(data, folder, force=True)
    assert (data / "train.tsv").is_file()


def test_no_folder_of_another_command_is_replaced(tmp_path):
    data = write_folder(tmp_path / "data")
    other = write_folder(tmp_path / "other")
    command = "fairseq-vgs prepare pairs TABLE OUTPUT --seed 1"
    content = {"made_by": "fairseq-vgs prepare", "corpus": "pairs", "command": command}
    (other / "summary.json").write_text(json.dumps(content))
    with raises_fault("output.not_ours", "other"):
        prepare_text(data, other, force=True)
    assert (other / "train.tsv").is_file()
