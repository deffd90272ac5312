"""Files of features: what is in them, resuming, sources and their names, refusals."""

import json
import os
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors import safe_open
from safetensors.numpy import load_file
from support import wav2vec2_files
from support.abx_material import write_checkpoint, write_recordings
from support.faults import raises_fault
from support.tiny_folder import make_folder, noise, pack_speech

from fairseq_vgs.checkpoints.load import CheckpointError, load_checkpoint
from fairseq_vgs.data.bad_items import BadItemError
from fairseq_vgs.data.waveform import normalize_waveform
from fairseq_vgs.features import extract as features_extract
from fairseq_vgs.features.embeddings import embed_split, open_split
from fairseq_vgs.features.extract import extract_features
from fairseq_vgs.features.recordings import open_source
from fairseq_vgs.features.speech import speech_features
from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.media.rates import SAMPLE_RATE
from fairseq_vgs.metrics.abx.items import frame_span

LENGTHS = {"test": [9600, 6000, 7321, 12000]}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("data") / "set", lengths=LENGTHS, n_images=3)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return load_checkpoint(write_checkpoint(tmp_path_factory.mktemp("model") / "checkpoint_best.pt"))


def array_files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.suffix in (".npy", ".safetensors")
    }


def test_files_of_a_manifest_folder(data, checkpoint, tmp_path):
    source = open_source([data.path])
    found = extract_features(checkpoint, source, tmp_path / "out")
    names = {f"layer_{number}/{i}" for number in range(4) for i in range(4)}
    names |= {f"speech_embedding/{i}" for i in range(4)} | {f"image_embedding/image{i}" for i in range(3)}
    assert set(array_files(tmp_path / "out")) == {f"{name}.npy" for name in names}
    assert (found.n_utterances, found.n_images, found.n_kept, found.frame_rate) == (4, 3, 0, 50.0)
    for name, recording in source.recordings.items():
        waveform = torch.from_numpy(normalize_waveform(recording.waveform()))
        for layer, expected in speech_features(checkpoint.model, [waveform])[0].layers.items():
            stored = np.load(tmp_path / f"out/{layer}/{name}.npy", allow_pickle=False)
            assert stored.dtype == np.float32
            assert np.allclose(stored, expected.numpy(), rtol=0, atol=1e-5)
        with torch.inference_mode():
            embedding = checkpoint.model.encode_speech(waveform[None])[0]
        stored = np.load(tmp_path / f"out/speech_embedding/{name}.npy")
        assert np.allclose(stored, embedding.numpy(), rtol=0, atol=1e-5)
    split = open_split(data.path, "test", config=checkpoint.config)
    images = embed_split(checkpoint.model, split).images
    for image_id, embedding in zip(split.image_ids, images, strict=True):
        stored = np.load(tmp_path / f"out/image_embedding/{image_id}.npy")
        assert np.allclose(stored, embedding, rtol=0, atol=1e-5)
    metadata = json.loads((tmp_path / "out/metadata.json").read_text(encoding="utf-8"))
    assert (metadata["frame_rate"], metadata["layers"]) == (50.0, [f"layer_{n}" for n in range(4)])
    assert (metadata["complete"], metadata["n_utterances"], metadata["n_images"]) == (True, 4, 3)


def test_safetensors_hold_the_same(data, checkpoint, tmp_path):
    source = open_source([data.path])
    extract_features(checkpoint, source, tmp_path / "npy", batch_seconds=0.1)
    extract_features(checkpoint, source, tmp_path / "st", file_format="safetensors")
    for name in source.recordings:
        with safe_open(tmp_path / f"st/speech/{name}.safetensors", "np") as file:
            assert set(file.keys()) == {"layer_0", "layer_1", "layer_2", "layer_3", "speech_embedding"}
            assert file.metadata()["frame_rate"] == "50.0"
            assert json.loads(file.metadata()["layers"]) == [f"layer_{number}" for number in range(4)]
            for key in file.keys():  # noqa: SIM118 - not a dictionary
                # one at a time there, all in one batch here
                expected = np.load(tmp_path / f"npy/{key}/{name}.npy")
                assert np.allclose(file.get_tensor(key), expected, rtol=0, atol=1e-5)
    assert (tmp_path / "st/images/image2.safetensors").is_file()


def test_an_interrupted_extraction_continues(data, checkpoint, tmp_path, monkeypatch):
    source, whole, broken = open_source([data.path]), tmp_path / "whole", tmp_path / "broken"
    extract_features(checkpoint, source, whole, batch_seconds=0.1)
    real, calls = features_extract.speech_features, []

    def stopping(model, sources, **options):
        calls.append(len(sources))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(model, sources, **options)

    monkeypatch.setattr(features_extract, "speech_features", stopping)
    with pytest.raises(KeyboardInterrupt):
        extract_features(checkpoint, source, broken, batch_seconds=0.1)
    assert not json.loads((broken / "metadata.json").read_text(encoding="utf-8"))["complete"]
    before = array_files(broken)
    assert len(before) == 2 * 5
    (broken / "layer_3/3.npy").unlink()  # an utterance is done when all its files are there
    found = extract_features(checkpoint, source, broken, batch_seconds=0.1)
    assert (found.n_kept, calls) == (1, [1] * 6)
    assert array_files(broken) == array_files(whole)
    again = extract_features(checkpoint, source, broken, batch_seconds=0.1)
    assert (again.n_kept, len(calls)) == (4 + 3, 6)


@pytest.mark.parametrize("file_format", ["npy", "safetensors"])
def test_what_has_changed_is_made_anew(checkpoint, tmp_path, monkeypatch, file_format):
    folder, output = tmp_path / "audio", tmp_path / "out"
    folder.mkdir()
    for name, n_samples in (("a", 16_000), ("b", 9600)):
        soundfile.write(folder / f"{name}.wav", noise(n_samples, seed=1), 16_000)
    options = {"parts": ["layers"], "layers": [1], "file_format": file_format, "batch_seconds": 0.1}

    def stored(place, name):
        if file_format == "npy":
            return np.load(place / f"layer_1/{name}.npy")
        return load_file(place / f"speech/{name}.safetensors")["layer_1"]

    extract_features(checkpoint, open_source([folder]), output, **options)
    before = array_files(output)
    soundfile.write(folder / "a.wav", noise(32_000, seed=2), 16_000)
    source = open_source([folder])
    real = features_extract.speech_features

    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(features_extract, "speech_features", stopped)
    with pytest.raises(KeyboardInterrupt):
        extract_features(checkpoint, source, output, **options)
    # neither is there an old file under the changed one's name, nor do the rest count as complete
    assert len(array_files(output)) == 1
    assert not json.loads((output / "metadata.json").read_text(encoding="utf-8"))["complete"]
    monkeypatch.setattr(features_extract, "speech_features", real)
    extract_features(checkpoint, source, output, **options)
    extract_features(checkpoint, source, tmp_path / "whole", **options)
    for name in ("a", "b"):
        np.testing.assert_array_equal(stored(output, name), stored(tmp_path / "whole", name))
    now = array_files(output)
    assert [name for name in now if now[name] != before[name]] == [name for name in now if "a." in name]

    # of one size and length, but another time of change
    soundfile.write(folder / "a.wav", noise(32_000, seed=3), 16_000)
    status = (folder / "a.wav").stat()
    os.utime(folder / "a.wav", ns=(status.st_atime_ns, status.st_mtime_ns + 10))
    found = extract_features(checkpoint, open_source([folder]), output, **options)
    assert (found.n_kept, found.n_changed) == (1, 1)
    assert array_files(output) != now
    # nobody knows what these were made from
    (output / "sources.json").unlink()
    found = extract_features(checkpoint, open_source([folder]), output, **options)
    assert (found.n_kept, found.n_changed) == (0, 2)
    (output / "sources.json").write_text("[1]", encoding="utf-8")
    with raises_fault("json.kind", "sources.json"):
        extract_features(checkpoint, open_source([folder]), output, **options)
    (output / "sources.json").unlink()
    (folder / "a.wav").unlink()
    with raises_fault("file.missing", "a.wav"):
        extract_features(checkpoint, source, output, **options)
    assert len(array_files(output)) == 2


def test_changed_regions_and_archives_are_read_anew(checkpoint, tmp_path):
    data = make_folder(tmp_path / "set", lengths=LENGTHS, n_images=3)
    pack_speech(data, "test")
    source = open_source([data.path])
    extract_features(checkpoint, source, tmp_path / "out", parts=["speech", "images"])
    before = array_files(tmp_path / "out")
    regions = np.load(data.region_features)
    np.save(data.region_features, regions + np.arange(regions.shape[1], dtype=np.float16))
    found = extract_features(checkpoint, source, tmp_path / "out", parts=["speech", "images"])
    assert (found.n_kept, found.n_changed) == (4, 3)
    now = array_files(tmp_path / "out")
    assert {name for name in now if now[name] != before[name]} == {
        f"image_embedding/image{number}.npy" for number in range(3)
    }
    os.utime(data.path / "test.zip", ns=(1, 1))
    found = extract_features(checkpoint, source, tmp_path / "out", parts=["speech", "images"])
    assert (found.n_kept, found.n_changed) == (3, 4)


def test_a_folder_of_other_features_is_refused(data, checkpoint, tmp_path):
    source = open_source([data.path])
    extract_features(checkpoint, source, tmp_path / "out", parts=["speech"])
    with raises_fault("work.settings", "out") as caught:
        extract_features(checkpoint, source, tmp_path / "out", parts=["layers"], layers=[1])
    assert "layers: [] before, ['layer_1'] now" in str(caught.value)
    with raises_fault("work.settings", "out") as caught:
        extract_features(checkpoint, source, tmp_path / "out", parts=["speech"], bf16=True)
    assert "precision: fp32 before, bf16 now" in str(caught.value)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").touch()
    with raises_fault("features.folder", "mine"):
        extract_features(checkpoint, source, tmp_path / "mine")


def test_chosen_layers_and_stock_wav2vec2(data, tmp_path):
    torch.save(wav2vec2_files.new_state(wav2vec2_files.stock_model({}), {}), tmp_path / "stock.pt")
    stock = load_checkpoint(tmp_path / "stock.pt", allow_stock=True)
    source = open_source([data.path])
    found = extract_features(stock, source, tmp_path / "out", layers=[2])
    assert found.layers == ("layer_2",) and found.n_images == 0
    assert set(array_files(tmp_path / "out")) == {f"layer_2/{i}.npy" for i in range(4)}
    with raises_fault("setting.value", "stock.pt", error=CheckpointError) as caught:
        extract_features(stock, source, tmp_path / "other", parts=["images"])
    assert "images" in str(caught.value)
    with raises_fault("setting.value", "stock.pt", error=CheckpointError) as caught:
        extract_features(stock, source, tmp_path / "other", layers=[4])
    assert "[4]" in str(caught.value)


def test_sources_and_names(tmp_path):
    folder = tmp_path / "audio"
    (folder / "a").mkdir(parents=True)
    for name in ("a/x.1.wav", "y.flac"):
        soundfile.write(folder / name, noise(6000, seed=1), 16_000)
    assert list(open_source([folder]).recordings) == ["a/x.1", "y"]
    files = open_source([folder / "y.flac", folder / "a/x.1.wav"])
    assert list(files.recordings) == ["y", "x.1"] and not files.has_images
    assert files.recordings["y"].n_samples == 6000
    soundfile.write(folder / "a/y.wav", noise(6000, seed=1), 16_000)
    assert list(open_source([folder / "y.flac", folder / "a/y.wav"]).recordings) == ["y", "a/y"]
    # an item file names recordings by their files' names
    assert list(open_source([write_recordings(tmp_path / "items")]).recordings) == ["r0", "r1", "r2"]
    packed = make_folder(tmp_path / "packed", lengths=LENGTHS, n_images=3)
    pack_speech(packed, "test")
    names = list(open_source([packed.path]).recordings)
    assert len(names) == 4 and all(name.startswith("test.zip_") for name in names)


def test_faulty_sources(tmp_path, checkpoint):
    with raises_fault("file.missing", "nowhere"):
        open_source([tmp_path / "nowhere"])
    with raises_fault("folder.empty"):
        open_source([tmp_path])
    (tmp_path / "x.wav").write_bytes(b"RIFF")
    with pytest.raises(FaultError) as caught:
        open_source([tmp_path])
    assert [(item.place, item.code) for item in caught.value.faults] == [
        (str(tmp_path / "x.wav"), "sound.unreadable")
    ]
    folder = write_recordings(tmp_path / "set")
    with raises_fault("split.unknown", "set") as caught:
        open_source([folder], split="train")
    assert "'train'" in str(caught.value)
    with raises_fault("recording.duplicate", "r0.wav"):
        open_source([folder / "r0.wav", folder / "r0.wav"])
    rows = "\n".join(f"r{n}.wav\t{name}" for n, name in enumerate(("r0", "../../r1", "r2")))
    (folder / "utterances.tsv").write_text(f"audio_id\tfile\n{rows}\n", encoding="utf-8")
    with raises_fault("recording.name", "test.tsv:3") as caught:
        open_source([folder])
    assert "'../../r1'" in str(caught.value)
    source = open_source([folder / "r0.wav"])
    short = replace(source.recordings["r0"], n_samples=399)
    with raises_fault("sound.length", "r0.wav", error=BadItemError) as caught:
        extract_features(checkpoint, replace(source, recordings={"r0": short}), tmp_path / "out")
    assert "'399 samples'" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_diverged_models_are_refused(data, tmp_path):
    path = write_checkpoint(tmp_path / "checkpoint.pt")
    broken = load_checkpoint(path)
    with torch.no_grad():
        broken.model.encoder.layers[1].fc1.bias.fill_(float("nan"))
    with raises_fault("checkpoint.not_finite", "checkpoint.pt", error=CheckpointError) as caught:
        extract_features(broken, open_source([data.path]), tmp_path / "out")
    assert "layer_2 of 3" in str(caught.value)


def test_complete_last_frame_gives_every_item_its_frames(checkpoint, tmp_path):
    """fastabx cuts an item as ``frame_span`` says, and refuses one that ends after the last frame."""
    lengths = [16_000 + rest for rest in (0, 79, 80, 159, 160, 239, 240, 319)]
    data = make_folder(tmp_path / "set", lengths={"test": lengths}, n_images=2)
    source, parts = open_source([data.path]), ["layers", "speech"]
    options = {"parts": parts, "layers": [1], "batch_seconds": 2.5}
    extract_features(checkpoint, source, tmp_path / "plain", **options)
    extract_features(checkpoint, source, tmp_path / "complete", complete_last_frame=True, **options)
    lacking = {}
    for folder in ("plain", "complete"):
        lacking[folder] = []
        for number, n_samples in enumerate(lengths):
            end = Decimal(n_samples) / SAMPLE_RATE
            first, count = frame_span(end - Decimal("0.1"), end, frame_rate=Decimal(50))
            layer = np.load(tmp_path / f"{folder}/layer_1/{number}.npy")
            lacking[folder].append(first + count - len(layer))
    assert lacking == {"plain": [1, 1, 0, 0, 1, 1, 1, 1], "complete": 8 * [0]}
    plain, complete = (
        np.load(tmp_path / f"{folder}/speech_embedding/0.npy") for folder in ("plain", "complete")
    )
    np.testing.assert_allclose(complete, plain, rtol=0, atol=1e-5)  # still those of evaluate retrieval
    with raises_fault("work.settings", "plain"):
        extract_features(checkpoint, source, tmp_path / "plain", complete_last_frame=True, **options)
