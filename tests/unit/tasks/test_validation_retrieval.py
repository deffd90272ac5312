import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fairseq_vgs.tasks.validation_retrieval import METRIC_NAMES, RetrievalCollector

RANK_SCRIPT = Path(__file__).parents[2] / "support" / "retrieval_rank.py"


def make_batches(*, n_pairs=23, n_images=9, dims=4, seed=0):
    """Batches of unequal size; pictures 0 and 1 are of one group; coarse values make ties."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(-2, 3, (n_images, dims), generator=generator).float()
    image_index = torch.arange(n_pairs) % n_images
    speech = images[image_index] + torch.randint(-1, 2, (n_pairs, dims), generator=generator).float()
    groups = torch.where(image_index == 1, 0, image_index)
    batches = []
    for ids in torch.arange(n_pairs).split([5, 4, 7, 1, 6]):
        sample = {"id": ids, "image_index": image_index[ids], "image_id": groups[ids]}
        batches.append((sample, {"speech": speech[ids], "image": images[image_index[ids]]}))
    return batches


def brute_force(batches):
    """Rank every query against everything by loops."""
    captions, images = {}, {}
    for sample, embeddings in batches:
        for row, pair in enumerate(sample["id"].tolist()):
            group = int(sample["image_id"][row])
            captions[pair] = (group, embeddings["speech"][row])
            images[int(sample["image_index"][row])] = (group, embeddings["image"][row])
    values = {}
    sides = {"speech_to_image": (captions, images), "image_to_speech": (images, captions)}
    for name, (queries, gallery) in sides.items():
        ranks = []
        for group, query in queries.values():
            scores = [(other == group, float(query @ item)) for other, item in gallery.values()]
            best = max(score for positive, score in scores if positive)
            wrong = [score for positive, score in scores if not positive]
            ranks.append(
                1 + sum(score > best for score in wrong) + 0.5 * sum(score == best for score in wrong)
            )
        for k in (1, 5, 10):
            values[f"{name}_r{k}"] = 100 * sum(rank <= k for rank in ranks) / len(ranks)
    return {**values, "retrieval_images": len(images), "retrieval_captions": len(captions)}


def collect(batches):
    collector = RetrievalCollector("dot")
    for batch in batches:
        collector.add(*batch)
    return collector


def test_equals_brute_force_over_the_whole_set():
    batches = make_batches()
    collector = collect(batches)
    assert collector.n_pairs == 23
    values = collector.values(23)
    assert set(values) == set(METRIC_NAMES)
    assert values == pytest.approx(brute_force(batches))
    assert values["retrieval_images"] == 9


def test_repeated_batches_count_once():
    batches = make_batches()
    assert collect([*batches, batches[0], batches[0]]).values(999) == collect(batches).values(23)


def test_copies_of_a_batch_are_recognised():
    first, second = (sample for sample, _ in make_batches()[:2])
    collector = RetrievalCollector("dot")
    assert [collector.begin(sample) for sample in (first, second, first, second)] == [
        False,
        False,
        True,
        True,
    ]
    collector.reset()
    assert not collector.begin(first)


def test_only_the_whole_set_is_ranked():
    batches = make_batches()
    collector = RetrievalCollector("dot")
    assert all(math.isnan(value) for value in collector.values(5).values())
    collector.add(*batches[0])
    first = collector.values(5)
    assert not math.isnan(first["speech_to_image_r1"])
    for batch in batches[1:]:
        collector.add(*batch)
        assert collector.values(len(batch[0]["id"])) is first  # fairseq's question about a single batch
    whole = collector.values(23)
    assert whole is not first
    assert collector.values(46) is whole  # meters that remember earlier validations
    collector.reset()
    assert collector.values(23) is whole
    collector.add(*batches[1])
    assert collector.values(4)["retrieval_captions"] == 4


def test_half_precision_embeddings():
    batches = [
        (sample, {k: v.bfloat16() for k, v in embeddings.items()}) for sample, embeddings in make_batches()
    ]
    assert collect(batches).values(23) == pytest.approx(brute_force(make_batches()))


@pytest.mark.parametrize(
    ("n_batches", "repeats"),
    [(5, [[False] * 3, [False, False, True]]), (1, [[False], [True]])],
)
def test_two_ranks_equal_one(tmp_path, n_batches, repeats):
    batches = make_batches()[:n_batches]  # the second rank's last one is a copy of the first
    torch.save(batches, tmp_path / "batches.pt")
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                str(RANK_SCRIPT),
                str(rank),
                "2",
                str(tmp_path / "init"),
                str(tmp_path / "batches.pt"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(RANK_SCRIPT.parents[2])},
        )
        for rank in range(2)
    ]
    outputs = []
    for process in processes:
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        outputs.append(json.loads(output.splitlines()[-1]))
    expected = {"n_pairs": 23 if n_batches == 5 else 5, **collect(batches).values(23)}
    assert outputs == [{"repeats": own, **expected} for own in repeats]
