import json

from fairseq_vgs.cli.main import main
from fairseq_vgs.manifest import AudioRow, ManifestFolder, PairRow
from fairseq_vgs.manifest.tables import write_audio_list, write_pairs


def test_texts_beside_the_data_or_elsewhere(tmp_path, capsys):
    folder = ManifestFolder(tmp_path / "data")
    rows = [AudioRow(f"{i}.wav", 16000) for i in range(3)]
    write_audio_list(folder.audio_list("train"), rows, root=".")
    write_pairs(folder.pairs("train"), [PairRow("0.wav", "a", "", "ab"), PairRow("1.wav", "a", "", "Ba")])
    assert main(["prepare", "text", str(folder.path)]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        "3 units",
        "train            2 utterances           6 units",
        "left out: 1 utterances without text",
    ]
    assert captured.err.splitlines()[-1] == f"written to {folder.path / 'text'}"
    assert (folder.text / "train.ltr").read_text(encoding="utf-8") == "▁ a b\n▁ b a\n"

    options = ["--normalization", "identity", "--unit-type", "bpe", "--vocabulary-size", "5", "--json"]
    assert main(["prepare", "text", str(folder.path), str(tmp_path / "other"), *options]) == 0
    assert json.loads(capsys.readouterr().out)["units"]["count"] == 4
    assert (tmp_path / "other" / "spm.model").is_file()


def test_missing_texts_are_an_error_of_one_line(tmp_path, capsys):
    assert main(["prepare", "text", str(tmp_path)]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"{tmp_path / 'train.pairs.tsv'}: must hold texts")
