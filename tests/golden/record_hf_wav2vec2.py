"""Records what transformers' wav2vec 2.0 computes from weights given by a formula: hf_wav2vec2.json.

Needs transformers, which the tests do not. From the checkout, in an environment that has it beside torch:

    PYTHONPATH=tests TORCH_DEVICE_BACKEND_AUTOLOAD=0 python tests/golden/record_hf_wav2vec2.py
"""

import json
from pathlib import Path

import torch
import transformers
from support.formula import noise, weight

SIZES = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": [16, 16, 12],
    "conv_kernel": [10, 8, 4],
    "conv_stride": [10, 8, 4],
    "num_conv_pos_embeddings": 6,
    "num_conv_pos_embedding_groups": 4,
    "num_codevectors_per_group": 8,
    "num_codevector_groups": 2,
    "codevector_dim": 12,
    "proj_codevector_dim": 16,
}
KINDS = {
    "base": {},
    "large": {
        "feat_extract_norm": "layer",
        "do_stable_layer_norm": True,
        "conv_bias": True,
        "proj_codevector_dim": 12,
    },
}
N_SAMPLES = 1700


def record(settings: dict[str, object]) -> dict[str, object]:
    """Run the model on one sound; outputs are [T, D], hidden states begin with the first layer's input."""
    config = transformers.Wav2Vec2Config(**{**SIZES, **settings})
    model = transformers.Wav2Vec2ForPreTraining(config).eval()
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    model.load_state_dict({name: weight(name, shape) for name, shape in shapes.items()}, strict=True)
    with torch.no_grad():
        source = noise("speech", (1, N_SAMPLES))
        output = model(source, output_hidden_states=True)
        last = model.wav2vec2(source).last_hidden_state
    return {
        "config": {**config.to_dict(), "architectures": ["Wav2Vec2ForPreTraining"]},
        "shapes": shapes,
        "hidden_states": [hidden[0].tolist() for hidden in output.hidden_states],
        "last_hidden_state": last[0].tolist(),
        "projected_states": output.projected_states[0].tolist(),
        "projected_quantized_states": output.projected_quantized_states[0].tolist(),
    }


def main() -> None:
    """Record both kinds."""
    content = {
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "n_samples": N_SAMPLES,
        **{kind: record(settings) for kind, settings in KINDS.items()},
    }
    text = json.dumps(content).replace('], "', '],\n"') + "\n"
    Path(__file__).with_name("hf_wav2vec2.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
