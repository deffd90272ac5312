import io

import numpy as np
import pytest
import sentencepiece
import torch
from support.faults import raises_fault
from support.tiny_folder import LAYERS, make_folder

from fairseq_vgs.data.captions import CaptionTokens, TextUnits, encode_captions, units_file
from fairseq_vgs.data.masking import MaskOptions
from fairseq_vgs.data.paired_dataset import VgsDataset, VgsDatasetOptions
from fairseq_vgs.data.tables import load_split
from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.manifest import ManifestFolder
from fairseq_vgs.modules.conv_spec import parse_conv_layers

CONV = parse_conv_layers(LAYERS)


@pytest.fixture(scope="module")
def units(tmp_path_factory):
    path = tmp_path_factory.mktemp("units") / "spm.model"
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([f"caption {i}" for i in range(12)]), model_writer=model, model_type="char",
        vocab_size=50, bos_id=-1, eos_id=-1, num_threads=1, minloglevel=2,
    )  # fmt: skip
    path.write_bytes(model.getvalue())
    return TextUnits(path)


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "data")


def with_texts(folder, texts, split="valid"):
    """Change the texts of the first pairs."""
    table = folder.pairs(split)
    lines = table.read_text(encoding="utf-8").splitlines()
    for number, text in texts.items():
        lines[number] = "\t".join([*lines[number].split("\t")[:3], text])
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")


def load(folder, split="valid", **settings):
    return load_split(folder, split, layers=CONV, with_texts=True, **settings)


def spelt(units, numbers):
    return units._processor.decode([int(number) for number in numbers])


def test_texts_stand_beside_the_pairs_that_are_kept(folder):
    lines = folder.pairs("valid").read_text(encoding="utf-8").splitlines()
    lines[2] = lines[2].replace("image1", "unknown")
    folder.pairs("valid").write_text("\n".join(lines) + "\n", encoding="utf-8")
    table = load(folder, skip_bad=True)
    assert list(table.texts) == [f"caption {i}" for i in range(8) if i != 1]
    assert load_split(folder, "train", layers=CONV).texts is None


def test_units_of_every_caption(folder, units):
    table, tokens = encode_captions(load(folder), units)
    assert len(table) == len(tokens.lengths) == 8
    assert [spelt(units, tokens[pair]) for pair in range(8)] == [f"caption {i}" for i in range(8)]
    assert tokens.lengths.tolist() == [len("▁caption▁0")] * 8
    assert tokens[3].dtype == np.int64


def test_captions_of_any_length():
    tokens = CaptionTokens([[5], [], [70_000, 2, 3]])
    assert [tokens[i].tolist() for i in range(3)] == [[5], [], [70_000, 2, 3]]
    assert tokens.lengths.tolist() == [1, 0, 3]


def test_pairs_without_text_are_all_named_or_skipped(folder, units):
    with_texts(folder, {2: "", 4: "  "})
    with pytest.raises(FaultError) as caught:
        encode_captions(load(folder), units)
    assert [fault.place for fault in caught.value.faults] == [
        "valid.tsv:3 (valid/1.wav)",
        "valid.tsv:5 (valid/3.wav)",
    ]
    assert set(caught.value.codes) == {"text.missing"}
    table, tokens = encode_captions(load(folder), units, skip_bad=True)
    assert table.n_skipped == 2
    assert spelt(units, tokens[1]) == table.texts[1] == "caption 2"


def test_missing_and_broken_units(tmp_path):
    folder = ManifestFolder(tmp_path)
    assert units_file(folder, None) == tmp_path / "text" / "spm.model"
    assert units_file(folder, "/x/y.model").as_posix() == "/x/y.model"
    with raises_fault("file.missing", "absent.model"):
        TextUnits(tmp_path / "absent.model")
    (tmp_path / "broken.model").write_bytes(b"no model")
    with raises_fault("file.unreadable", "broken.model"):
        TextUnits(tmp_path / "broken.model")


def test_batches_hold_units_in_place_of_waveforms(folder, units):
    with_texts(folder, {1: "caption 1 caption 2", 2: "no"})
    options = VgsDatasetOptions(
        layers=CONV, max_samples=8000, pad_to_max=True, mask=MaskOptions(0.5, 2), image_size=16
    )
    dataset = VgsDataset(load(folder), options, units=units)
    assert dataset.sizes.tolist()[:3] == [20, 3, 10]
    assert dataset.ordered_indices()[0] == 0
    sample = dataset.collater([dataset[0], dataset[1]])
    net_input = sample["net_input"]
    assert net_input["source"].dtype == torch.int64
    assert net_input["source"].shape == (2, 20)
    assert net_input["padding_mask"].sum(dim=1).tolist() == [0, 17]
    assert "mask_indices" not in net_input
    assert spelt(units, net_input["source"][0]) == "caption 1 caption 2"
    assert sample["ntokens"] == 23
    assert max(map(len, dataset.batch_by_size(dataset.ordered_indices(), max_tokens=30))) == 3
