"""wav2vec 2.0 from a Hugging Face folder (``Wav2Vec2Model``, ``Wav2Vec2ForPreTraining``, ``Wav2Vec2ForCTC``).

The names of weights and settings were read in folders that transformers 5.23 wrote; older versions name
normalised weights as fairseq does. Both are read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from fairseq_vgs.checkpoints.imports.paths import ImportFileError
from fairseq_vgs.checkpoints.imports.wav2vec2_branch import SpeechBranch, check_sample_rate, plain_weights
from fairseq_vgs.checkpoints.load import named, read_pickle
from fairseq_vgs.files.packages import optional_package
from fairseq_vgs.files.texts import read_object

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")

# Hugging Face's module or parameter -> fairseq's, without the transformer layers and the extractor
MODULES = {
    "masked_spec_embed": "mask_emb",
    "feature_projection.layer_norm": "layer_norm",
    "feature_projection.projection": "post_extract_proj",
    "encoder.pos_conv_embed.conv": "encoder.pos_conv.0",
    "encoder.layer_norm": "encoder.layer_norm",
    "quantizer.codevectors": "quantizer.vars",
    "quantizer.weight_proj": "quantizer.weight_proj",
    "project_q": "project_q",
    "project_hid": "final_proj",
}
LAYER_MODULES = {
    "attention.q_proj": "self_attn.q_proj",
    "attention.k_proj": "self_attn.k_proj",
    "attention.v_proj": "self_attn.v_proj",
    "attention.out_proj": "self_attn.out_proj",
    "layer_norm": "self_attn_layer_norm",
    "feed_forward.intermediate_dense": "fc1",
    "feed_forward.output_dense": "fc2",
    "final_layer_norm": "final_layer_norm",
}
_LAYER = re.compile(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")
_EXTRACTOR = re.compile(r"feature_extractor\.conv_layers\.(\d+)\.(conv|layer_norm)\.(weight|bias)")
_PARAMETER = re.compile(r"(.+)\.(weight|bias|weight_g|weight_v)")
_HEADS = {"lm_head.": "the head of fine-tuning (CTC)"}
_SSL_HEADS = ("quantizer.", "project_q.", "final_proj.")

_NORMS = {"group": "default", "layer": "layer_norm"}
# Settings of which our model has only these values; the default is Hugging Face's, for absent keys.
_FIXED = {
    "layer_norm_eps": (1e-5, (1e-5,)),
    "feat_extract_activation": ("gelu", ("gelu",)),
    "hidden_act": ("gelu", ("gelu", "relu")),
    "feat_extract_norm": ("group", tuple(_NORMS)),
    "add_adapter": (False, (False, None)),
    "adapter_attn_dim": (None, (None,)),
}
# Hugging Face's setting -> fairseq's and the default of Hugging Face
_RENAMED: dict[str, tuple[str, Any]] = {
    "num_hidden_layers": ("encoder_layers", 12),
    "hidden_size": ("encoder_embed_dim", 768),
    "intermediate_size": ("encoder_ffn_embed_dim", 3072),
    "num_attention_heads": ("encoder_attention_heads", 12),
    "hidden_act": ("activation_fn", "gelu"),
    "hidden_dropout": ("dropout", 0.1),
    "attention_dropout": ("attention_dropout", 0.1),
    "activation_dropout": ("activation_dropout", 0.1),
    "feat_proj_dropout": ("dropout_input", 0.0),
    "feat_quantizer_dropout": ("dropout_features", 0.0),
    "do_stable_layer_norm": ("layer_norm_first", False),
    "conv_bias": ("conv_bias", False),
    "num_conv_pos_embeddings": ("conv_pos", 128),
    "num_conv_pos_embedding_groups": ("conv_pos_groups", 16),
    "num_codevectors_per_group": ("latent_vars", 320),
    "num_codevector_groups": ("latent_groups", 2),
    "proj_codevector_dim": ("final_dim", 256),
    "codevector_dim": ("latent_dim", 256),
    "contrastive_logits_temperature": ("logit_temp", 0.1),
    "num_negatives": ("num_negatives", 100),
}
_CONV_DEFAULTS = {
    "conv_dim": [512] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
}


def read_hugging_face(folder: Path) -> SpeechBranch:
    """Read a folder with ``config.json`` and ``model.safetensors`` or ``pytorch_model.bin``.

    Raises:
        ImportFileError: a file is missing or cannot be read safely, or our model lacks parts of its model.
    """
    config_path = folder / "config.json"
    if not config_path.exists():
        message = f"file must exist; give a Hugging Face folder with config.json and {WEIGHT_FILES[0]}"
        raise ImportFileError.at(config_path, message, "file.missing")
    config = read_object(config_path, "download it again", error=ImportFileError)
    settings = _speech_settings(config, config_path)
    extra = folder / "preprocessor_config.json"
    preprocessing = read_object(extra, "download it again", error=ImportFileError) if extra.exists() else {}
    check_sample_rate(preprocessing.get("sampling_rate"), folder / "preprocessor_config.json")
    path, found = _read_weights(folder)
    weights, dropped = _rename(found, settings, path)
    return SpeechBranch(
        source=folder,
        settings=settings,
        weights=weights,
        normalize=preprocessing.get("do_normalize"),
        dropped=dropped,
        fresh=_absent(weights),
        notes=_notes(config),
    )


def _speech_settings(config: Mapping[str, Any], path: Path) -> dict[str, Any]:
    if config.get("model_type") != "wav2vec2":
        message = f"model_type must be wav2vec2, got {config.get('model_type')!r}; give a wav2vec 2.0 model"
        raise ImportFileError.at(path, message, "import.kind")
    for key, (default, allowed) in _FIXED.items():
        value = config.get(key, default)
        if value not in allowed:
            expected = f"{key} must be {' or '.join(map(str, allowed[:2]))}, as in fairseq's wav2vec 2.0"
            message = f"{expected}, got {value!r}; give another model"
            raise ImportFileError.at(path, message, "import.settings")
    settings = {ours: config.get(key, default) for key, (ours, default) in _RENAMED.items()}
    settings["extractor_mode"] = _NORMS[config.get("feat_extract_norm", "group")]
    convolutions = {key: config.get(key, default) for key, default in _CONV_DEFAULTS.items()}
    settings["conv_feature_layers"] = _conv_feature_layers(convolutions, path)
    settings["quantize_targets"] = True
    if settings["latent_dim"] == settings["final_dim"]:
        settings["latent_dim"] = 0  # fairseq's way to say so
    if (size := settings["encoder_embed_dim"]) == convolutions["conv_dim"][-1]:
        got = f"{size} for both: fairseq's wav2vec 2.0 has no projection then"
        message = f"hidden_size must differ from the last conv_dim, got {got}; give another model"
        raise ImportFileError.at(path, message, "import.settings")
    return settings


def _conv_feature_layers(columns: Mapping[str, Any], path: Path) -> str:
    """Write the extractor as fairseq's text: ``[(channels, kernel, stride), ...]``."""
    numbers = [value for column in columns.values() if isinstance(column, list) for value in column]
    lengths = {len(column) if isinstance(column, list) else 0 for column in columns.values()}
    if len(lengths) != 1 or 0 in lengths or not all(isinstance(n, int) and n > 0 for n in numbers):
        expected = f"{', '.join(columns)} must be equally long lists of positive integers"
        message = f"{expected}, got {list(columns.values())}; download it again"
        raise ImportFileError.at(path, message, "import.settings")
    return str(list(zip(*columns.values(), strict=True)))


def _read_weights(folder: Path) -> tuple[Path, dict[str, Tensor]]:
    for name in WEIGHT_FILES:
        path = folder / name
        if path.is_file():
            is_pickle = path.suffix == ".bin"
            found = read_pickle(path, ImportFileError) if is_pickle else load_safetensors(path)
            return path, plain_weights(found, path)
    shards = [f"{name}.index.json" for name in WEIGHT_FILES if (folder / f"{name}.index.json").exists()]
    hint = "save it again in one piece (max_shard_size)" if shards else "download the PyTorch weights"
    message = f"must hold {' or '.join(WEIGHT_FILES)}, got {shards[0] if shards else 'neither'}; {hint}"
    raise ImportFileError.at(folder, message, "file.missing")


def load_safetensors(path: Path) -> dict[str, Tensor]:
    """Read a file of weights.

    Raises:
        ImportFileError: ``import.unreadable`` or ``package.missing``.
    """
    modules = ("safetensors", "safetensors.torch")
    base, files = (optional_package(name, "interop", place=path, error=ImportFileError) for name in modules)
    try:
        return dict(files.load_file(path))
    except (base.SafetensorError, OSError, ValueError) as error:
        message = f"must be a safetensors file, could not be read ({error}); download it again"
        raise ImportFileError.at(path, message, "import.unreadable") from error


def _rename(
    found: Mapping[str, Tensor], settings: Mapping[str, Any], path: Path
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Translate every name; refuse what is neither known nor the head of a fine-tuned model."""
    norm = "2.1" if settings["extractor_mode"] == "layer_norm" else "2"
    weights, dropped, unknown = {}, {}, []
    for key, tensor in found.items():
        reason = next((reason for head, reason in _HEADS.items() if key.startswith(head)), None)
        name = _fairseq_name(key.removeprefix("wav2vec2."), norm)
        if reason is not None:
            dropped[key] = reason
        elif name is not None:
            weights[name] = tensor
        else:
            unknown.append(key)
    if unknown:
        kinds = "Wav2Vec2Model or Wav2Vec2ForPreTraining"
        message = f"weights must be those of {kinds}, got {named(unknown)}; give the pre-trained model"
        raise ImportFileError.at(path, message, "import.unknown")
    return weights, dropped


def _fairseq_name(key: str, norm: str) -> str | None:
    if key in MODULES:
        return MODULES[key]
    if match := _EXTRACTOR.fullmatch(key):
        return f"feature_extractor.conv_layers.{match[1]}.{'0' if match[2] == 'conv' else norm}.{match[3]}"
    if match := _LAYER.fullmatch(key):
        module = LAYER_MODULES.get(match[2])
        return module and f"encoder.layers.{match[1]}.{module}.{match[3]}"
    if match := _PARAMETER.fullmatch(key):
        module = MODULES.get(match[1])
        return module and f"{module}.{match[2]}"
    return None


def _absent(weights: Mapping[str, Tensor]) -> dict[str, str]:
    """Name the parts that some kinds of folders leave out."""
    fresh = {}
    if not any(key.startswith(_SSL_HEADS) for key in weights):
        fresh = dict.fromkeys(_SSL_HEADS, "the folder holds no pre-training heads")
    if "mask_emb" not in weights:
        fresh["mask_emb"] = "the folder holds no mask embedding"
    return fresh


def _notes(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Name the settings that are not kept: those of fine-tuning, and what the plugin sets otherwise."""
    masks = (
        "mask_time_* and mask_feature_* are left out, as they belong to fine-tuning; masks are our defaults"
    )
    if (drop := config.get("layerdrop", 0.1)) == 0:
        return (masks,)
    reason = "the shared layer must run in every pass"
    return masks, f"encoder_layerdrop is 0.0 instead of the folder's {drop}: {reason}"
