"""Exported models beside those they were made from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fairseq_vgs.checkpoints.exports.convert import settings_of, weights_of
from fairseq_vgs.checkpoints.exports.modeling.configuration_vgs import VgsConfig
from fairseq_vgs.checkpoints.exports.modeling.modeling_vgs import VgsModel
from fairseq_vgs.features.speech import padded


def with_statistics(model: Any) -> Any:
    """Give batch norms statistics as if the model had been trained."""
    generator = torch.Generator().manual_seed(0)
    for value in model.buffers():
        if value.is_floating_point() and value.numel() > 3:
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    return model.eval()


def exported(model: Any) -> VgsModel:
    """Build the exported model in memory."""
    settings = settings_of(model, criterion={}, task={}, max_seconds=10.0)
    twin = VgsModel(VgsConfig(**settings)).eval()
    twin.load_state_dict(weights_of(model)[0], strict=True)
    return twin


def batch(lengths: Sequence[int], *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Draw utterances: f32[B, S], padding bool[B, S]."""
    generator = torch.Generator().manual_seed(seed)
    return padded([torch.randn(length, generator=generator) for length in lengths], lengths)


def of_fairseq(model: Any, source: Tensor, padding_mask: Tensor) -> dict[str, Any]:
    """Compute all that the exported model offers by the model itself, in its own batch."""
    inputs: list[Tensor] = []
    hook = model.encoder.layers[0].register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    with torch.inference_mode():
        output = model.extract_features(source, padding_mask, mask=False)
        hook.remove()
        outputs = [result[0] for result in output["layer_results"]]
        n_cls = int(model.cfg.use_cls)
        states = [inputs[0][n_cls : n_cls + len(outputs[0])], *outputs]
        frame_padding = output["padding_mask"]
        valid = (
            torch.ones(states[0].shape[1::-1], dtype=torch.bool) if frame_padding is None else ~frame_padding
        )
        return {
            "states": [state.transpose(0, 1) for state in states],
            "last": output["x"],
            "valid": valid,
            "speech": model.encode_speech(source, padding_mask),
        }


def assert_same_speech(model: Any, twin: VgsModel, lengths: Sequence[int], *, atol: float = 1e-5) -> None:
    """Compare every layer and the embedding of speech; frames of padding are no results."""
    source, padding_mask = batch(lengths)
    wanted, valid = (found := of_fairseq(model, source, padding_mask)), found["valid"]
    with torch.inference_mode():
        output: Any = twin(source, (~padding_mask).long(), output_hidden_states=True)
        alone = twin.get_speech_features(source, (~padding_mask).long())
    assert len(output.hidden_states) == len(wanted["states"])
    pairs = zip(
        [*output.hidden_states, output.last_hidden_state], [*wanted["states"], wanted["last"]], strict=True
    )
    for state, expected in pairs:
        torch.testing.assert_close(state[valid], expected[valid], rtol=0, atol=atol)
    if output.frame_mask is not None:
        assert torch.equal(output.frame_mask, valid)
    torch.testing.assert_close(output.speech_embeds, wanted["speech"], rtol=0, atol=atol)
    torch.testing.assert_close(alone, wanted["speech"], rtol=0, atol=atol)
