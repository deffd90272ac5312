"""Against fairseq's way: every negative copied, every pair compared."""

import pytest
import torch

from fairseq_vgs.modules.masked_prediction import candidate_logits, draw_negatives


def frames(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def copied_logits(predicted, targets, negatives, temperature):
    n_rows = len(targets)
    copies = targets[torch.arange(n_rows)[:, None, None], negatives].permute(2, 0, 1, 3)
    equal = (targets == copies).all(-1)
    candidates = torch.cat([targets.unsqueeze(0), copies])
    logits = torch.cosine_similarity(predicted, candidates, dim=-1) / temperature
    logits[1:][equal] = -torch.inf
    return logits


def test_logits_and_gradients_equal_copied_negatives():
    predicted, targets = frames(3, 7, 8), frames(3, 7, 8, seed=1)
    targets[0, 2] = targets[0, 5]  # as quantized targets often are
    negatives = draw_negatives(3, 7, 20, torch.device("cpu"))
    results = []
    for function in (
        lambda x, y: copied_logits(x, y, negatives, 0.1),
        lambda x, y: candidate_logits(x, y, negatives, temperature=0.1),
    ):
        x, y = predicted.clone().requires_grad_(), targets.clone().requires_grad_()
        logits = function(x, y)
        logits.flatten(1).logsumexp(0).sum().backward()
        results.append((logits, x.grad, y.grad))
    assert results[0][0].isinf().any()
    for expected, actual in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def test_nearly_equal_negatives_are_not_taken_for_equal():
    targets = torch.ones(1, 3, 4)
    targets[0, 1, 2] = torch.nextafter(torch.tensor(1.0), torch.tensor(2.0))
    targets[0, 2] = torch.tensor([-0.0, 0.0, 0.0, 1.0])
    targets = torch.cat([targets, torch.tensor([[[0.0, -0.0, 0.0, 1.0]]])], dim=1)
    negatives = torch.tensor([[[1, 2], [0, 2], [3, 0], [2, 1]]])
    logits = candidate_logits(frames(1, 4, 4), targets, negatives, temperature=1.0)
    assert logits.isinf()[:, 0].T.tolist() == [
        [False, False, False],
        [False, False, False],
        [False, True, False],  # zero equals minus zero
        [False, True, False],
    ]


def test_a_target_of_zeros_has_similarity_zero():
    zeros, negatives = torch.zeros(1, 2, 4), torch.tensor([[[1], [0]]])
    logits = candidate_logits(frames(1, 2, 4), zeros, negatives, temperature=0.1)
    assert logits[0].tolist() == [[0.0, 0.0]]


def test_negatives_are_other_frames_and_all_of_them():
    torch.manual_seed(0)
    negatives = draw_negatives(2, 5, 200, torch.device("cpu"))
    assert negatives.shape == (2, 5, 200)
    for row in negatives:
        for frame, own in enumerate(row.tolist()):
            assert set(own) == set(range(5)) - {frame}


def test_a_lone_masked_frame_has_no_negatives():
    with pytest.raises(ValueError, match="at least 2"):
        draw_negatives(2, 1, 3, torch.device("cpu"))
