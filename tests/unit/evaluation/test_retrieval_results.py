"""The results folder: what is written is read back, and half a folder is refused."""

from __future__ import annotations

import numpy as np
import pytest
from support.retrieval_folders import write_results

from fairseq_vgs.evaluation import retrieval_results
from fairseq_vgs.evaluation.results import ResultsError, read_table


def test_round_trip(tmp_path):
    items, ranks = write_results(tmp_path)
    found = retrieval_results.read_retrieval(tmp_path)
    assert found.items.audio_ids == tuple(items.audio_ids)
    assert found.items.image_ids == tuple(items.image_ids)
    np.testing.assert_array_equal(found.items.caption_image, items.caption_image)
    np.testing.assert_array_equal(found.items.pool.speech_groups, items.pool.speech_groups)
    np.testing.assert_array_equal(found.items.speech, items.speech)
    np.testing.assert_array_equal(found.ranks.speech_to_image, ranks.speech_to_image)
    np.testing.assert_array_equal(found.ranks.image_to_speech, ranks.image_to_speech)
    assert found.metrics["split"] == "test"


def test_tables_hold_the_top_answer_and_the_baseline(tmp_path):
    items, ranks = write_results(tmp_path)
    rows = read_table(tmp_path / "speech_to_image.csv")
    scores = items.speech.astype(np.float64) @ items.images.astype(np.float64).T
    for number, row in enumerate(rows):
        assert row["top_image_id"] == items.image_ids[int(np.argmax(scores[number]))]
        assert float(row["top_score"]) == pytest.approx(scores[number].max(), rel=1e-5)
        assert row["image_id"] == items.image_ids[items.caption_image[number]]
        assert float(row["rank"]) == ranks.speech_to_image[number]
        assert float(row["untrained_rank"]) >= 1
    assert read_table(tmp_path / "image_to_speech.csv")[-1]["rank"] == ""  # no captions


def test_existing_results_are_kept(tmp_path):
    write_results(tmp_path)
    with pytest.raises(FileExistsError):
        write_results(tmp_path)
    write_results(tmp_path, force=True)


@pytest.mark.parametrize("name", retrieval_results.FILE_NAMES)
def test_half_a_folder_is_refused(tmp_path, name):
    write_results(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ResultsError, match=name):
        retrieval_results.read_retrieval(tmp_path)


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    items, _ = write_results(tmp_path)
    np.save(tmp_path / "speech_embeddings.npy", items.speech[:-1])
    with pytest.raises(ResultsError, match="must have"):
        retrieval_results.read_retrieval(tmp_path)
    write_results(tmp_path, force=True)
    (tmp_path / "image_to_speech.csv").write_text("image_id,rank\n" + "x,1\n" * len(items.image_ids))
    with pytest.raises(ResultsError, match="run it again"):
        retrieval_results.read_retrieval(tmp_path)
