"""Embeddings are those of evaluation, of whatever a recording or a picture is given as."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from support.faults import raises_fault

import fairseq_vgs as vgs
from fairseq_vgs.api import images as images_in
from fairseq_vgs.api import speech as speech_in
from fairseq_vgs.checkpoints.load import load_checkpoint
from fairseq_vgs.cli.main import main
from fairseq_vgs.features.embeddings import embed_split, open_split
from fairseq_vgs.features.occlusion import Occlusion
from fairseq_vgs.media.encode import to_flac
from fairseq_vgs.media.errors import MediumError
from fairseq_vgs.media.sound import decode
from fairseq_vgs.regions.efficientnet import FEATURE_DIM

CUT = {"valid_max_seconds": 0.55}  # some recordings are longer
ROUNDING = {"rtol": 0, "atol": 2e-6}


@pytest.fixture(scope="session")
def model(run):
    return vgs.load(run)


def evaluated(run, data):
    checkpoint = load_checkpoint(run / "checkpoints/checkpoint_best.pt")
    split = open_split(data, "test", config=checkpoint.config)
    return split, embed_split(checkpoint.model, split)


@pytest.mark.parametrize("padding", ["exact", "fairseq", "fast_vgs"])
@pytest.mark.parametrize("pad_to_max", [False, True])
def test_speech_is_that_of_evaluation(make_run, recipe, data, padding, pad_to_max, monkeypatch):
    run = make_run(
        images=recipe, task={**CUT, "pad_to_max": pad_to_max}, padding=padding, image_dim=FEATURE_DIM
    )
    split, expected = evaluated(run, data)
    model = vgs.load(run)
    paths = [data / name for name in split.audio_ids]
    np.testing.assert_allclose(model.embed_speech(paths), expected.speech, **ROUNDING)
    monkeypatch.setattr("fairseq_vgs.api.model.BATCH_SECONDS", 0.7)  # hence several batches and windows
    np.testing.assert_allclose(model.embed_speech(iter(paths)), expected.speech, **ROUNDING)


def test_regions_are_those_of_evaluation(run, data, model):
    """The network computes a picture alone, and rounds to float16 as prepare does."""
    split, expected = evaluated(run, data)
    pictures = [data / f"images/{name.removeprefix('image')}.png" for name in split.image_ids]
    np.testing.assert_allclose(model.embed_images(pictures), expected.images, rtol=0, atol=1e-4)


@pytest.mark.parametrize("fit", ["squeeze", "crop"])
def test_pictures_are_those_of_evaluation(make_run, data, fit):
    run = make_run(images={}, task={"image_input": "pictures", "image_fit": fit}, image_encoder="patches")
    split, expected = evaluated(run, data)
    pictures = [data / f"images/{name.removeprefix('image')}.png" for name in split.image_ids]
    model = vgs.load(run)
    np.testing.assert_allclose(model.embed_images(pictures), expected.images, **ROUNDING)
    with raises_fault("setting.unused", "boxes"):
        model.embed_images(pictures[0], boxes=[[0, 0, 1, 1]])


def test_a_recording_equals_what_prepare_makes_of_it(model, media, tmp_path):
    """A rate of 44.1 kHz and two channels."""
    prepared, _ = to_flac(decode(media / "a.wav"))
    (tmp_path / "prepared.flac").write_bytes(prepared)
    found = model.embed_speech([media / "a.wav", tmp_path / "prepared.flac"])
    np.testing.assert_allclose(found[0], found[1], **ROUNDING)


def test_one_stands_for_a_list_of_one_and_order_is_kept(model, media):
    both = model.embed_speech([media / "a.wav", media / "b.flac"])
    assert both.dtype == np.float32
    assert both.shape == (2, 20)
    for row, path in zip(both, ("a.wav", "b.flac"), strict=True):
        np.testing.assert_allclose(model.embed_speech(str(media / path))[0], row, **ROUNDING)
    assert model.embed_speech([]).shape == model.embed_images([]).shape == (0, 20)


@pytest.mark.parametrize("form", ["float", "channels first", "int16", "tuple", "tensor", "bytes"])
def test_arrays_are_what_their_files_are(model, media, form):
    samples, rate = soundfile.read(media / "a.wav", dtype="int16" if form == "int16" else "float64")
    given = {
        "float": samples,
        "int16": samples,
        "channels first": samples.T,
        "tuple": (samples, rate),
        "tensor": torch.from_numpy(samples),
        "bytes": (media / "a.wav").read_bytes(),
    }[form]
    found = model.embed_speech(given, sampling_rate=None if form == "tuple" else rate)
    np.testing.assert_allclose(found, model.embed_speech(media / "a.wav"), **ROUNDING)


@pytest.mark.parametrize("form", ["image", "array", "bytes", "grey", "sideways"])
def test_pictures_are_what_their_files_are(model, media, tmp_path, form):
    path = media / "y.png"
    picture = Image.open(path)
    if form == "grey":
        picture = picture.convert("L")
        picture.save(path := tmp_path / "grey.png")
    if form == "sideways":
        exif = Image.Exif()
        exif[0x0112] = 6
        picture.save(path := tmp_path / "sideways.png", exif=exif)
        picture = Image.open(path)
    given = {"array": np.asarray(picture), "bytes": path.read_bytes()}.get(form, picture)
    np.testing.assert_allclose(model.embed_images(given), model.embed_images(path), **ROUNDING)


@pytest.mark.parametrize("mode", ["CMYK", "RGBA", "P", "1", "LA", "YCbCr"])
def test_pictures_in_memory_may_have_any_mode(model, media, mode):
    picture = Image.open(media / "y.png").convert(mode)
    expected = picture.convert("RGB")
    np.testing.assert_allclose(model.embed_images(picture), model.embed_images(expected), **ROUNDING)


def test_similarity_takes_embeddings_or_what_they_are_made_of(model, media):
    recordings, pictures = [media / "a.wav", media / "b.flac"], [media / "x.jpg", media / "y.png"]
    speech, images = model.embed_speech(recordings), model.embed_images(pictures)
    found = model.similarity(speech, images)
    np.testing.assert_allclose(found, speech @ images.T, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.similarity(recordings, torch.from_numpy(images)), found, rtol=1e-4)
    np.testing.assert_allclose(model.similarity(recordings[0], pictures[1]), found[:1, 1:], rtol=1e-4)
    with raises_fault("model.dims", "images"):
        model.similarity(speech, images[:, 1:])


def test_similarity_is_the_run_s(make_run, run, recipe, media):
    own = make_run(images=recipe, image_dim=FEATURE_DIM)
    path = own / "checkpoints/checkpoint_best.pt"
    state = torch.load(path)
    state["cfg"]["criterion"]["similarity"] = "cosine"
    torch.save(state, path)
    model = vgs.load(own)
    speech, image = model.embed_speech(media / "a.wav"), model.embed_images(media / "x.jpg")
    cosine = (speech @ image.T) / np.linalg.norm(speech) / np.linalg.norm(image)
    np.testing.assert_allclose(model.similarity(speech, image), cosine, rtol=1e-5)


@pytest.mark.parametrize(
    "given", ["array", "wrong type", "3-D", "NaN", "silence", "short", "picture", "folder", "missing"]
)
def test_what_is_no_recording_is_named(model, media, tmp_path, given):
    samples = np.zeros(4000) + np.sin(np.arange(4000))
    cases = {
        "array": (samples, None, "sound.sample_rate"),
        "wrong type": (samples.astype(np.uint8), 16_000, "sound.type"),
        "3-D": (samples.reshape(10, 20, 20), 16_000, "sound.shape"),
        "NaN": (np.append(samples, np.nan), 16_000, "sound.not_finite"),
        "silence": (np.full(4000, 0.1), 16_000, "sound.silent"),
        "short": (samples[:300], 16_000, "sound.length"),
        "picture": (media / "x.jpg", None, "media.kind"),
        "folder": (tmp_path, None, "file.missing"),
        "missing": (tmp_path / "no.wav", None, "file.missing"),
    }
    recording, rate, code = cases[given]
    with raises_fault(code):
        model.embed_speech([media / "a.wav", recording], sampling_rate=rate)


@pytest.mark.parametrize("given", ["recording", "float", "4-D", "number", "text", "depth", "missing"])
def test_what_is_no_picture_is_named(model, media, tmp_path, given):
    (tmp_path / "notes.txt").write_text("notes")
    cases = {
        "recording": (media / "a.wav", "media.kind"),
        "float": (np.zeros((8, 8, 3)), "media.kind"),
        "4-D": (np.zeros((2, 8, 8, 3), np.uint8), "media.kind"),
        "number": (7, "media.kind"),
        "text": (tmp_path / "notes.txt", "picture.unreadable"),
        "depth": (Image.new("F", (8, 8)), "picture.mode"),
        "missing": (tmp_path / "no.jpg", "file.missing"),
    }
    picture, code = cases[given]
    with raises_fault(code):
        model.embed_images([media / "x.jpg", picture])


def test_boxes_are_given_where_the_training_had_a_table(make_run, recipe, run, media):
    table = {key: value for key, value in recipe.items() if key != "grid"} | {"boxes": "boxes.tsv"}
    model = vgs.load(make_run(images=table, image_dim=FEATURE_DIM))
    with raises_fault("regions.boxes", "x.jpg") as caught:
        model.embed_images(media / "x.jpg")
    assert "boxes.tsv" in str(caught.value)
    halves = [[0, 0, 0.5, 1], [0.5, 0, 1, 1]]
    expected = vgs.load(run).embed_images([media / "x.jpg", media / "y.png"])
    found = model.embed_images(media / "x.jpg", boxes=halves)
    np.testing.assert_allclose(found, expected[:1], **ROUNDING)
    pictures, whole = [media / "x.jpg", media / "x.jpg", media / "y.png"], [[0, 0, 1, 1]]
    found = model.embed_images(pictures, boxes=[halves, whole, halves])
    np.testing.assert_allclose(found[[0, 2]], expected, rtol=0, atol=1e-4)
    assert np.abs(found[1] - found[0]).max() > 1e-3
    for wrong in ([halves], [halves, whole, [[0, 0, 2, 1]]], [halves, whole, [[0.5, 0, 0.5, 1]]]):
        with raises_fault("regions.boxes"):
            model.embed_images(pictures, boxes=wrong)


def test_layers_are_those_that_are_extracted(model, data, tmp_path):
    """Of the whole recording, not cut; number 0 is what enters the first layer."""
    path = data / "test/3.wav"
    assert main(["extract", "--output", str(tmp_path / "out"), str(model.path), str(path)]) == 0
    layers = model.layers(path)
    assert len(layers) == 4
    for number, layer in enumerate(layers):
        stored = np.load(tmp_path / f"out/layer_{number}/3.npy")
        np.testing.assert_allclose(layer, stored, **ROUNDING)


@pytest.mark.parametrize(
    "settings", [{}, {"use_cls": False}, {"layer_norm_first": True}, {"required_seq_len_multiple": 8}]
)
@pytest.mark.parametrize("layer", [1, 3])
def test_attention_weights_are_those_of_the_forward_pass(make_run, media, settings, layer):
    """Weights times values, through the layer's own projection, are what its attention put out."""
    model = vgs.load(make_run(images={}, **settings))
    attention = model._model.encoder.layers[layer - 1].self_attn
    kept = {}
    hooks = [
        attention.register_forward_pre_hook(lambda _, __, named: kept.update(named), with_kwargs=True),
        attention.register_forward_hook(lambda _, __, output: kept.update(output=output[0])),
    ]
    n_frames = len(model.layers(media / "a.wav")[1])
    for hook in hooks:
        hook.remove()
    weights = torch.from_numpy(model.attention(media / "a.wav", layer=layer))
    n = n_frames + settings.get("use_cls", True)
    assert weights.shape == (2, n, n)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, n))
    values = attention.v_proj(kept["query"])[:n, 0].unflatten(1, (2, 12)).transpose(0, 1)
    together = attention.out_proj((weights @ values).transpose(0, 1).flatten(1))
    torch.testing.assert_close(together, kept["output"][:n, 0], rtol=1e-5, atol=1e-6)


def test_a_layer_may_be_numpys(model, media):
    np.testing.assert_array_equal(
        model.attention(media / "a.wav", layer=np.int64(2)), model.attention(media / "a.wav", layer=2)
    )


def test_layers_that_are_not_there(model, media):
    for layer in (0, 4, -1, 1.0, "2", None):
        with raises_fault("setting.value", "layer"):
            model.attention(media / "a.wav", layer=layer)


def test_heat_map_is_that_of_the_gallery(run, data, model):
    checkpoint = load_checkpoint(run / "checkpoints/checkpoint_best.pt")
    lens = Occlusion(checkpoint, open_split(data, "test", config=checkpoint.config))
    expected = lens.heat_map("test/1.wav", "image1")
    found = model.heat_map(data / "test/1.wav", data / "images/1.png")
    np.testing.assert_allclose(found.values, expected.values, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_array_equal(found.loudness, expected.loudness)
    np.testing.assert_allclose(found.times, [0, 0.1, 0.2, 0.3], rtol=1e-6)
    assert found.similarity == pytest.approx(
        float(model.similarity(data / "test/1.wav", data / "images/1.png")[0, 0]), rel=1e-4
    )
    assert found.picture.size == (20, 10)


def test_heat_map_is_drawn_and_written(model, media, tmp_path):
    heat = model.heat_map(media / "a.wav", media / "x.jpg")
    drawn = heat.plot(tmp_path / "heat.png")
    with Image.open(tmp_path / "heat.png") as written:
        assert written.size == drawn.size
    assert len(np.unique(np.asarray(drawn).reshape(-1, 3), axis=0)) > 50
    with pytest.raises(FileExistsError):
        heat.plot(tmp_path / "heat.png")
    heat.plot(tmp_path / "heat.png", force=True)
    heat.plot(tmp_path / "heat.svg")
    assert (tmp_path / "heat.svg").read_bytes().startswith(b"<?xml")
    with raises_fault("plot.suffix"):
        heat.plot(tmp_path / "heat.txt")


def test_few_recordings_are_in_memory_at_a_time():
    """Of endless ones, too."""
    alive = []

    def endless():
        for number in itertools.count():
            alive.append(number)
            yield np.zeros(100 + 10 * (number % 7), np.float32)

    batches = speech_in.in_batches(endless(), max_samples=500)
    seen = [number for batch in itertools.islice(batches, 20) for number, _ in batch]
    assert len(alive) - len(seen) < 4 * 500 / 100
    for batch in itertools.islice(batches, 20):
        assert len(batch) * max(len(waveform) for _, waveform in batch) <= 500


def test_batches_count_what_all_are_padded_to():
    items = [np.zeros(100, np.float32)] * 9
    batches = list(speech_in.in_batches(items, max_samples=500, pad_to=250))
    assert [len(batch) for batch in batches] == [2, 2, 2, 2, 1]
    assert sorted(number for batch in batches for number, _ in batch) == list(range(9))


def test_few_pictures_are_open_at_a_time():
    """Of endless ones, too; what has as many regions is read together, and numbers tell which."""
    opened = []

    class Reader:
        def read(self, pictures):
            for place, _, _ in pictures:
                opened.append(place)
                n_regions = 1 + len(opened) % 3
                yield {
                    "boxes": torch.zeros(1, n_regions, 4),
                    "features": torch.full((1, n_regions, 2), len(opened)),
                }

    batches = images_in.in_batches(Reader(), (b"" for _ in itertools.count()))
    first = list(itertools.islice(batches, 3))
    assert len(opened) == 32
    assert sorted(number for _, numbers in first for number in numbers) == list(range(32))
    for image, numbers in first:
        assert image["features"][:, 0, 0].tolist() == [number + 1 for number in numbers]


def test_a_picture_cut_short_is_named_as_such_by_models_of_pixels_too(make_run, run, media, tmp_path):
    path = tmp_path / "cut.png"
    path.write_bytes((media / "y.png").read_bytes()[:-200])
    for model in (vgs.load(make_run(image_encoder="patches")), vgs.load(run)):
        with pytest.raises(MediumError) as caught:  # not that of training, which could skip it
            model.embed_images([media / "x.jpg", path])
        assert caught.value.codes == ("picture.unreadable",)
        assert "cut.png" in str(caught.value)


def test_tensors_with_gradients_stand_for_arrays(run, media):
    model = vgs.load(run, device="cpu")
    samples, rate = soundfile.read(media / "a.wav", dtype="float32")
    speech = model.embed_speech(media / "a.wav")
    of_tensor = model.embed_speech(torch.tensor(samples, requires_grad=True), sampling_rate=rate)
    np.testing.assert_array_equal(of_tensor, speech)
    other = np.flip(speech, 1).copy()
    found = model.similarity(torch.tensor(speech, requires_grad=True), torch.tensor(other))
    np.testing.assert_array_equal(found, model.similarity(speech, other))
    rows = torch.eye(3, requires_grad=True)
    assert vgs.retrieval(rows, rows, "abc").values["speech_to_image_r1"] == 100
