"""An upstream of S3PRL: every layer of the speech encoder.

Copied over ``s3prl/upstream/example/expert.py``, it is S3PRL's ``-u customized_upstream -k FOLDER``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel

NORM_EPSILON = 1e-5
# none of these changes a state; S3PRL counts, trains and redraws what it finds
NOT_OF_STATES = ("speech_head", "image_encoder", "region_network", "logit_scale", "logit_bias")


class UpstreamExpert(nn.Module):
    """Offers what enters each layer and what the last one puts out, without the CLS vector.

    Args:
        ckpt: the folder; None for the one that holds this file.
    """

    def __init__(self, ckpt: str | None = None, **_others: Any) -> None:
        super().__init__()
        folder = Path(ckpt) if ckpt else Path(__file__).parent
        folder = folder if folder.is_dir() else folder.parent
        self.model: Any = AutoModel.from_pretrained(folder, trust_remote_code=True)
        for part in NOT_OF_STATES:
            setattr(self.model, part, None)

    def get_downsample_rates(self, key: str) -> int:  # noqa: ARG002 - of all states
        """Return the samples between two frames."""
        rate: int = self.model.feature_extractor.hop
        return rate

    def forward(self, wavs: list[Tensor]) -> dict[str, Any]:
        """Encode waveforms of 16 kHz, each `[S]`, without padding.

        Returns:
            ``hidden_states``, each `[B, T, D]`, and their last as ``last_hidden_state``, for fine-tuning.
        """
        if self.model.config.normalize:
            wavs = [nn.functional.layer_norm(wav, wav.shape, eps=NORM_EPSILON) for wav in wavs]
        lengths = torch.tensor([len(wav) for wav in wavs], device=wavs[0].device)
        padded = nn.utils.rnn.pad_sequence(wavs, batch_first=True)
        mask = torch.arange(padded.size(1), device=padded.device) < lengths.unsqueeze(1)
        states = list(self.model.get_speech_states(padded, mask))
        return {"hidden_states": states, "last_hidden_state": states[-1]}
