import dataclasses
import logging

import numpy as np
import pytest
import soundfile
import torch
from fairseq.data import FileAudioDataset
from support.faults import raises_fault
from support.tiny_folder import LAYERS, REGION_DIM, make_folder, make_unpaired, noise, pack_speech

from fairseq_vgs.data.bad_items import BadItemError
from fairseq_vgs.data.masking import MaskOptions
from fairseq_vgs.data.paired_dataset import VgsDataset, VgsDatasetOptions
from fairseq_vgs.data.pictures import Augmentation
from fairseq_vgs.data.regions import load_regions
from fairseq_vgs.data.tables import load_audio_table, load_split
from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.modules.conv_spec import n_frames, parse_conv_layers

CONV = parse_conv_layers(LAYERS)
OPTIONS = VgsDatasetOptions(
    layers=CONV, max_samples=8000, random_crop=True, mask=MaskOptions(0.5, 3), image_size=8, training=True
)


def dataset(folder, *, split="train", pictures=False, unpaired=None, **changes):
    options = dataclasses.replace(OPTIONS, **changes)
    table = load_split(folder, split, layers=CONV, skip_bad=options.skip_bad)
    regions = None
    if not pictures:
        regions = load_regions(
            folder, image_index=table.images.index, max_regions=36, skip_bad=options.skip_bad
        )
    if unpaired is not None:
        unpaired = load_audio_table(unpaired / "train.tsv", layers=CONV, skip_bad=options.skip_bad)
    return VgsDataset(table, options, regions=regions, unpaired=unpaired)


def assert_equal_items(first, second):
    for field in dataclasses.fields(first):
        np.testing.assert_array_equal(getattr(first, field.name), getattr(second, field.name))


def assert_equal_samples(first, second):
    assert first.keys() == second.keys()
    for key, value in first.items():
        if isinstance(value, dict):
            assert_equal_samples(value, second[key])
        else:
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(second[key])), key


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "m")


def test_an_item_depends_on_seed_epoch_and_index_alone(folder):
    forwards, backwards = dataset(folder), dataset(folder)
    items = [forwards[i] for i in range(12)]
    for i in reversed(range(12)):
        assert_equal_items(items[i], backwards[i])
    backwards.set_epoch(2)
    assert not np.array_equal(backwards[11].waveform, items[11].waveform)  # another crop
    assert not np.array_equal(backwards[0].mask, items[0].mask)
    other_seed = dataset(folder, seed=2)
    assert not np.array_equal(other_seed[11].waveform, items[11].waveform)


def test_pictures_vary_by_seed_epoch_and_index_in_training_alone(folder):
    varied = {"pictures": True, "augmentation": Augmentation(crop_scale=0.3, jitter=0.4)}
    first, again, plain = dataset(folder, **varied), dataset(folder, **varied), dataset(folder, pictures=True)
    pictures = [first[i].picture for i in range(12)]
    for i in reversed(range(12)):
        np.testing.assert_array_equal(again[i].picture, pictures[i])
    assert not np.array_equal(pictures[0], plain[0].picture)
    assert first[0].image_row == first[6].image_row
    assert not np.array_equal(pictures[0], pictures[6])  # another caption of the same picture
    again.set_epoch(2)
    assert not np.array_equal(again[0].picture, pictures[0])
    assert not np.array_equal(dataset(folder, **varied, seed=2)[0].picture, pictures[0])
    validation = dataset(folder, split="valid", **varied, training=False)
    expected = dataset(folder, split="valid", pictures=True, training=False)
    np.testing.assert_array_equal(validation[0].picture, expected[0].picture)
    first_masks = [dataset(folder, pictures=True)[0].mask, dataset(folder, **varied)[0].mask]
    np.testing.assert_array_equal(*first_masks)


def test_content_of_an_item(folder):
    data = dataset(folder, normalize=False, random_crop=False)
    item = data[9]
    assert (item.index, item.image_row, item.image_group) == (9, 3, 3)
    samples, _ = soundfile.read(folder.path / "train/9.wav", dtype="float32")
    np.testing.assert_array_equal(item.waveform, samples[:8000])
    assert item.mask.shape == (n_frames(8000, CONV),)
    assert item.features.shape == (1, REGION_DIM)
    np.testing.assert_allclose(item.boxes, [[0.1, 0.2, 0.6, 0.9]])
    assert data.sizes.tolist() == [min(6000 + 400 * i, 8000) for i in range(12)]
    assert (data.size(2), data.num_tokens(11), len(data)) == (6800, 8000, 12)
    assert data.num_tokens_vec(np.array([0, 11])).tolist() == [6000, 8000]
    whole = dataset(folder)[9]
    assert abs(whole.waveform.mean()) < 1e-6
    assert abs(whole.waveform.std() - 1) < 1e-3


def test_random_crops_are_parts_of_the_utterance(folder):
    data = dataset(folder, normalize=False, max_samples=3000)
    samples, _ = soundfile.read(folder.path / "train/5.wav", dtype="float32")
    windows = np.lib.stride_tricks.sliding_window_view(samples, 3000)
    starts = set()
    for epoch in range(1, 6):
        data.set_epoch(epoch)
        matches = np.flatnonzero((windows == data[5].waveform).all(axis=1))
        assert len(matches) == 1
        starts.add(int(matches[0]))
    assert len(starts) == 5


def test_pictures(folder):
    item = dataset(folder, pictures=True)[2]
    assert item.picture.shape == (3, 8, 8)
    assert item.features is None


def test_workers_and_neighbours_change_nothing(folder):
    data = dataset(folder)
    batches = [[0, 5, 11], [3, 4]]
    here = [data.collater([data[i] for i in batch]) for batch in batches]
    for n_workers, context in ((2, "fork"), (1, "spawn")):
        loader = torch.utils.data.DataLoader(
            data,
            batch_sampler=batches,
            collate_fn=data.collater,
            num_workers=n_workers,
            multiprocessing_context=context,
        )
        for expected, sample in zip(here, loader, strict=True):
            assert_equal_samples(expected, sample)
    source = data.collater([data[5]])["net_input"]["source"][0]
    np.testing.assert_array_equal(source.numpy(), here[0]["net_input"]["source"][1, : len(source)].numpy())


def test_batches_change_with_the_epoch(folder):
    data = dataset(folder, length_noise=0.5)
    orders = []
    for epoch in (1, 2, 1):
        data.set_epoch(epoch)
        orders.append(data.ordered_indices().tolist())
    assert orders[0] == orders[2]
    assert orders[0] != orders[1]
    assert data.can_reuse_epoch_itr_across_epochs is False
    valid = dataset(folder, split="valid", training=False)
    lengths = valid.sizes[valid.ordered_indices()]
    assert (np.diff(lengths) <= 0).all()


def test_mixed_batches(folder, tmp_path):
    unpaired = make_unpaired(tmp_path / "u", [20_000, 5000, 9000, 7000])
    data = dataset(folder, unpaired=unpaired, unpaired_ratio=0.5)
    batches = data.batch_by_size(data.ordered_indices(), max_sentences=5, max_tokens=7 * 8000)
    assert sorted(int(i) for batch in batches for i in batch if i < 12) == list(range(12))
    n_slots = 0
    for batch in batches:
        sample = data.collater([data[i] for i in batch])
        n_pairs = sample["n_pairs"]
        n_unpaired = sample["nsentences"] - n_pairs
        n_slots += n_unpaired
        assert n_unpaired == int(0.5 * n_pairs + 0.5)
        assert n_pairs <= 5
        lengths = (~sample["net_input"]["padding_mask"]).sum(1)
        assert lengths[n_pairs:].max() <= lengths[:n_pairs].max()
        assert sample["net_input"]["source"].numel() <= 7 * 8000
        assert sample["net_input"]["image"]["features"].size(0) == n_pairs
        assert len(sample["net_input"]["mask_indices"]) == sample["nsentences"]
    assert sorted(int(i) for batch in batches for i in batch if i >= 12) == list(range(12, 12 + n_slots))
    again = dataset(folder, unpaired=unpaired, unpaired_ratio=0.5)
    other_batches = again.batch_by_size(again.ordered_indices(), max_sentences=5, max_tokens=7 * 8000)
    assert [batch.tolist() for batch in batches] == [batch.tolist() for batch in other_batches]
    assert_equal_items(data[12], again[12])
    with pytest.raises(IndexError):
        data[12 + n_slots]


def test_validation_has_no_unpaired_speech(folder, tmp_path):
    unpaired = make_unpaired(tmp_path / "u", [20_000])
    data = dataset(folder, unpaired=unpaired, unpaired_ratio=1.0, training=False)
    batches = data.batch_by_size(data.ordered_indices(), max_sentences=4)
    assert max(int(batch.max()) for batch in batches) < 12


def test_lone_pairs_are_warned_of(folder, caplog):
    with caplog.at_level(logging.WARNING):
        dataset(folder).batch_by_size(np.arange(12), max_sentences=1)
    assert "12 of 12 batches hold a single pair" in caplog.text
    assert "dataset.batch_size" in caplog.text


def test_speech_padded_to_max_seconds_counts_as_that_long(folder):
    data = dataset(folder, pad_to_max=True)
    order = data.ordered_indices()
    assert sorted(order) == list(range(12))
    assert np.diff(data.sizes[order]).max() > 800  # random: by length, noise of 10 % allows no such step
    batches = data.batch_by_size(order, max_tokens=3 * 8000)
    assert [len(batch) for batch in batches] == [3, 3, 3, 3]
    sample = data.collater([data[0], data[1]])
    assert sample["net_input"]["source"].shape == (2, 8000)
    assert sample["net_input"]["padding_mask"].sum(1).tolist() == [2000, 1600]
    assert sample["n_padded"] == 3600


def test_pairs_longer_than_max_tokens_are_no_silent_loss(folder):
    data = dataset(folder)
    indices, ignored = data.filter_indices_by_size(np.arange(12), 7000)
    assert len(indices) == 12
    assert ignored == []
    with raises_fault("setting.value", "dataset.max_tokens") as caught:
        data.batch_by_size(data.ordered_indices(), max_tokens=7000)
    assert "8000" in str(caught.value)


def spoil(folder, kind):
    """Damage pair 4 of the training split."""
    path = folder.path / "train/4.wav"
    samples = noise(7600, seed=0)
    if kind == "unreadable":
        path.write_text("no audio")
    elif kind == "missing":
        path.unlink()
    elif kind == "empty":
        soundfile.write(path, samples[:0], 16_000)
    elif kind == "rate":
        soundfile.write(path, samples, 22_050)
    elif kind == "length":
        soundfile.write(path, samples[:-1], 16_000)
    elif kind == "nan":
        samples[100] = np.nan
        soundfile.write(path, samples, 16_000, subtype="FLOAT")
    elif kind == "silent":
        soundfile.write(path, 0 * samples, 16_000)
    elif kind == "features":
        features = np.load(folder.region_features)
        features[7] = np.inf  # the only one of picture 3 is row 6, the first of picture 4 is row 7
        np.save(folder.region_features, features)
    elif kind == "picture":
        (folder.path / "images/4.png").write_bytes(b"no picture")


KINDS = ["unreadable", "missing", "empty", "rate", "length", "nan", "silent", "features", "picture"]


@pytest.mark.parametrize("kind", KINDS)
def test_bad_items_stop_the_run_or_are_skipped(folder, caplog, kind):
    spoil(folder, kind)
    pictures = kind == "picture"
    strict = dataset(folder, pictures=pictures, normalize=False, max_samples=9000)
    bad = [4, 10] if kind in ("features", "picture") else [4]
    places = {"features": "regions.npy: rows [7", "picture": "images.tsv:7 (images/4.png)"}
    with pytest.raises(BadItemError) as caught:
        strict[4]
    assert str(caught.value).startswith(places.get(kind, "train.tsv:6 (train/4.wav)"))

    lenient = dataset(folder, pictures=pictures, normalize=False, max_samples=9000, skip_bad=True)
    with caplog.at_level(logging.WARNING):
        sample = lenient.collater([lenient[i] for i in range(12)])
        lenient.collater([lenient[i] for i in range(12)])
    assert sample["id"].tolist() == [i for i in range(12) if i not in bad]
    assert sample["n_skipped"] == len(bad)
    assert sample["nsentences"] == 12 - len(bad)
    assert lenient.n_bad() == {"a pair": len(bad), "unpaired speech": 0}
    assert caplog.text.count("skipped a pair") == len(bad)  # once each
    assert str(caught.value) in caplog.text


def test_skips_in_workers_are_counted_here(folder):
    spoil(folder, "silent")
    data = dataset(folder, skip_bad=True)
    loader = torch.utils.data.DataLoader(
        data, batch_sampler=[[0, 1], [3, 4, 5]], collate_fn=data.collater, num_workers=2
    )
    assert [sample["n_skipped"] for sample in loader] == [0, 1]
    assert data.n_bad()["a pair"] == 1


def test_a_truncated_archive(folder, caplog):
    archive = pack_speech(folder, "train")
    archive.write_bytes(archive.read_bytes()[:-150_000])
    strict, lenient = dataset(folder), dataset(folder, skip_bad=True)
    with raises_fault("file.unreadable", error=BadItemError) as caught:
        strict[11]
    assert caught.value.faults[0].place.startswith("train.tsv:13 (train.zip:")
    with caplog.at_level(logging.WARNING):
        sample = lenient.collater([lenient[i] for i in range(12)])
    assert 0 < sample["n_skipped"] < 12
    assert sample["n_pairs"] == 12 - sample["n_skipped"]


def test_bad_unpaired_speech(folder, tmp_path):
    unpaired = make_unpaired(tmp_path / "u", [6000, 6000])
    (unpaired / "train/1.wav").write_text("no audio")
    changes = {"unpaired": unpaired, "unpaired_ratio": 0.5}
    strict, lenient = dataset(folder, **changes), dataset(folder, skip_bad=True, **changes)
    batch = strict.batch_by_size(strict.ordered_indices())[0]
    with raises_fault("sound.unreadable", "train.tsv:3 (train/1.wav)", error=BadItemError):
        [strict[i] for i in batch]
    batch = lenient.batch_by_size(lenient.ordered_indices())[0]
    sample = lenient.collater([lenient[i] for i in batch])
    assert (sample["n_pairs"], sample["nsentences"], sample["n_skipped"]) == (12, 15, 3)
    assert lenient.n_bad() == {"a pair": 0, "unpaired speech": 1}


def test_batches_without_usable_pairs(folder, caplog):
    data = dataset(folder, skip_bad=True)
    longest = [11, 10]
    for i in (9, 10, 11):
        (folder.path / f"train/{i}.wav").write_text("no audio")
    batches = data.batch_by_size(np.array([*longest, 9, 8, 7, 6, 5]), max_sentences=2)
    # fairseq takes the first batch where another one turns out empty
    assert data.collater([data[i] for i in batches[0]])["n_pairs"] >= 2
    assert sorted(int(i) for batch in batches for i in batch) == [5, 6, 7, 8, 9, 10, 11]
    with caplog.at_level(logging.WARNING):
        assert data.collater([data[i] for i in longest]) == {}
    assert "left out a batch of 2 items" in caplog.text
    for i in range(9):
        (folder.path / f"train/{i}.wav").write_text("no audio")
    with raises_fault("split.empty", "train.tsv"):
        data.batch_by_size(np.arange(12), max_sentences=4)


def test_pictures_without_regions_are_listed(folder):
    lines = folder.regions.read_text().splitlines()
    kept = [line for line in lines if not line.startswith(("image2", "image5"))]
    folder.regions.write_text("\n".join(kept) + "\n")
    with raises_fault("regions.missing") as caught:
        dataset(folder)
    assert [fault.place for fault in caught.value.faults] == [
        "images.tsv:5 (images/2.png)",
        "images.tsv:8 (images/5.png)",
    ]
    assert len(dataset(folder, pictures=True)) == 12


def test_pictures_with_bad_regions_are_skipped_on_request(folder, caplog):
    # lines: 0 image0, 1-2 image1, 3-5 image2, 6 image3, 7-8 image4, 9-11 image5
    lines = folder.regions.read_text().splitlines()
    lines[2] = lines[2].replace("\t0.6\t", "\t1.6\t")  # image1: box outside
    lines[7] = lines[7].replace("\t6\t", "\t99\t")  # image3: no such feature row
    lines[8] = lines[8].replace("image4", "image44")  # image4 has another region left
    kept = [line for line in lines if not line.startswith("image5")]
    folder.regions.write_text("\n".join(kept) + "\n")
    with pytest.raises(FaultError):
        dataset(folder)
    with caplog.at_level(logging.WARNING):
        data = dataset(folder, skip_bad=True)
    assert [int(row) % 6 for row in data.table.audio_row] == [0, 2, 4] * 2
    assert len(data) == len(data.sizes) == 6
    assert data.n_bad() == {"a pair": 6, "unpaired speech": 0}
    messages = [record.getMessage() for record in caplog.records]
    for place in ("regions.tsv:3", "regions.tsv:8", "regions.tsv:9", "images.tsv:8 (images/5.png)"):
        assert sum(message.startswith(f"skipped: {place}: ") for message in messages) == 1, place
    assert "split 'train': 6 pairs are skipped for their regions, 6 are left" in messages
    assert data[2].features.shape == (1, REGION_DIM)
    folder.regions.write_text("\n".join([lines[0], lines[-1].replace("\t0.6\t", "\t1.6\t"), lines[8]]) + "\n")
    with raises_fault("split.empty", "train.tsv"):
        dataset(folder, skip_bad=True)


@pytest.mark.parametrize("packed", [False, True])
def test_stock_fairseq_reads_the_same_audio_list(folder, packed):
    if packed:
        pack_speech(folder, "train")
    stock = FileAudioDataset(str(folder.audio_list("train")), 16_000, pad=True, normalize=True)
    ours = dataset(folder, max_samples=20_000)
    assert len(stock) == 12
    assert stock.sizes.tolist() == ours.sizes.tolist()
    for i in range(12):
        np.testing.assert_allclose(stock[i]["source"].numpy(), ours[i].waveform, atol=1e-5)
