"""Captions as text through the same loss: a genuine run, evaluated with the units it was trained with."""

from support.train import history, train

from fairseq_vgs.checkpoints.load import load_checkpoint
from fairseq_vgs.features.embeddings import embed_split, open_split
from fairseq_vgs.prepare.text import prepare_text


def test_text_trains_and_is_evaluated(small_data, tmp_path):
    prepare_text(small_data, tmp_path / "text")
    train(
        "vgs", tmp_path / "run", "scenario=text", f"task.data={small_data}",
        f"task.text_units={tmp_path / 'text' / 'spm.model'}", "optimization.max_update=4",
        "dataset.batch_size=8",
    )  # fmt: skip
    logged = history(tmp_path / "run")[4]
    assert logged["vgs_loss"] > 0
    assert logged["alpha"] == 1
    assert not [key for key in logged if key.startswith("ssl_")]
    valid = history(tmp_path / "run", "valid")[4]
    assert valid["retrieval_images"] == 10
    assert not [key for key in valid if key.startswith("ssl_")]

    checkpoint = load_checkpoint(tmp_path / "run" / "checkpoints" / "checkpoint_last.pt")
    assert checkpoint.config["model"]["text_vocabulary"] > 2
    split = open_split(small_data, "valid", config=checkpoint.config)
    embeddings = embed_split(checkpoint.model, split)
    assert len(embeddings.speech) == len(embeddings.images) == 10
