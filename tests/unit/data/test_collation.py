import numpy as np
import torch
from support.tiny_folder import LAYERS

from fairseq_vgs.data.collation import CollationOptions, PairItem, SkippedItem, SpeechItem, collate
from fairseq_vgs.data.masking import MaskOptions, draw_mask
from fairseq_vgs.modules.conv_spec import n_frames, parse_conv_layers

CONV = parse_conv_layers(LAYERS)
OPTIONS = CollationOptions(seed=3)


def speech(index, n_samples, *, masked=True):
    waveform = np.random.default_rng(index).standard_normal(n_samples).astype(np.float32)
    mask = draw_mask(n_frames(n_samples, CONV), MaskOptions(0.5, 3), np.random.default_rng(index))
    return index, waveform, mask if masked else None


def pair(index, n_samples, *, n_regions=2, masked=True, picture=False):
    draws = np.random.default_rng(index)
    images = {
        "features": draws.standard_normal((n_regions, 4)).astype(np.float32),
        "boxes": draws.random((n_regions, 4)).astype(np.float32),
    }
    if picture:
        images = {"picture": draws.standard_normal((3, 6, 6)).astype(np.float32)}
    return PairItem(*speech(index, n_samples, masked=masked), 10 + index, 20 + index, **images)


def test_everything_of_a_mixed_batch():
    items = [
        pair(3, 5000, n_regions=1),
        pair(1, 8000, n_regions=3),
        SpeechItem(*speech(77, 6500)),
        SkippedItem(5),
    ]
    sample = collate(items, OPTIONS, epoch=2)
    assert sample["id"].tolist() == [3, 1]
    assert sample["image_index"].tolist() == [13, 11]
    assert sample["image_id"].tolist() == [23, 21]
    counts = {"n_pairs": 2, "nsentences": 3, "ntokens": 19_500, "n_padded": 4500, "n_skipped": 1}
    assert {key: sample[key] for key in counts} == counts
    inputs = sample["net_input"]
    assert set(inputs) == {"source", "padding_mask", "mask_indices", "image"}
    assert inputs["source"].shape == inputs["padding_mask"].shape == (3, 8000)
    for row, item in enumerate((items[0], items[1], items[2])):
        length = len(item.waveform)
        np.testing.assert_array_equal(inputs["source"][row, :length].numpy(), item.waveform)
        assert not inputs["source"][row, length:].any()
        assert inputs["padding_mask"][row].tolist() == [False] * length + [True] * (8000 - length)
    masks = inputs["mask_indices"]
    assert masks.dtype == torch.int64
    assert masks.shape == (3, min(np.count_nonzero(items[i].mask) for i in range(3)))
    for row, item in enumerate(items[:3]):
        own = masks[row].tolist()
        assert own == sorted(set(own) & set(np.flatnonzero(item.mask).tolist()))
    image = inputs["image"]
    assert image["features"].shape == (2, 3, 4)
    assert image["boxes"].shape == (2, 3, 4)
    assert image["padding_mask"].tolist() == [[False, True, True], [False, False, False]]
    np.testing.assert_array_equal(image["features"][1].numpy(), items[1].features)
    assert not image["features"][0, 1:].any()


def test_pairs_come_first_whatever_the_order():
    sample = collate([SpeechItem(*speech(9, 4000)), pair(0, 3000), pair(1, 3000)], OPTIONS, epoch=1)
    assert sample["id"].tolist() == [0, 1]
    assert sample["net_input"]["padding_mask"].sum(1).tolist() == [1000, 1000, 0]


def test_pictures_and_no_masks():
    sample = collate(
        [pair(0, 3000, masked=False, picture=True), pair(1, 3000, masked=False, picture=True)],
        OPTIONS,
        epoch=1,
    )
    assert set(sample["net_input"]) == {"source", "padding_mask", "image"}
    assert sample["net_input"]["image"]["pictures"].shape == (2, 3, 6, 6)
    assert not sample["net_input"]["padding_mask"].any()


def test_nothing_left_is_fairseqs_empty_batch():
    assert collate([], OPTIONS, epoch=1) == {}
    assert collate([SkippedItem(0), SpeechItem(*speech(4, 3000))], OPTIONS, epoch=1) == {}


def test_a_pair_left_alone_by_skipping():
    dropping = CollationOptions(seed=3, drop_lone_pair=True)
    items = [pair(0, 3000), SkippedItem(1)]
    assert collate(items, dropping, epoch=1) == {}
    assert collate(items, OPTIONS, epoch=1)["n_pairs"] == 1
    assert (
        collate(items[:1], dropping, epoch=1)["n_pairs"] == 1
    )  # alone from the start: for the criterion to judge


def test_trimming_depends_on_the_epoch_alone():
    items = [pair(0, 9000), pair(1, 3000)]
    first, again = (collate(items, OPTIONS, epoch=1)["net_input"]["mask_indices"] for _ in range(2))
    other = collate(items, OPTIONS, epoch=2)["net_input"]["mask_indices"]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
