"""The authors' count of valid frames, piece by piece."""

import pytest
import torch

from fairseq_vgs.models.settings import authors_sample_padding
from fairseq_vgs.modules.conv_spec import n_frames, parse_conv_layers

LAYERS = parse_conv_layers("[(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512, 2, 2)] * 2")


def valid_frames(n_samples: int, length: int) -> int:
    """Count frames of whose piece not every sample is padding."""
    total = n_frames(n_samples, LAYERS)
    piece = (n_samples - n_samples % total) // total
    return sum(any(sample < length for sample in range(i * piece, (i + 1) * piece)) for i in range(total))


@pytest.mark.parametrize("n_samples", [128_000, 160_000, 8000, 26_081])
def test_fairseq_counts_what_the_authors_count(n_samples):
    lengths = [400, 719, 720, 721, 6399, 6400, 6401, n_samples - 1, n_samples]
    padding_mask = torch.arange(n_samples) >= torch.tensor(lengths).unsqueeze(1)
    moved = authors_sample_padding(padding_mask, LAYERS)
    counted = n_frames((~moved).sum(dim=1), LAYERS)
    assert counted.tolist() == [valid_frames(n_samples, length) for length in lengths]
    assert not (moved[:, :-1] & ~moved[:, 1:]).any()  # padding still follows the speech
