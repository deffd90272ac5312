"""Settings of a visually grounded speech model outside fairseq."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PretrainedConfig

WAV2VEC2_LAYERS = ((512, 10, 5), *((512, 3, 2),) * 4, *((512, 2, 2),) * 2)


class VgsConfig(PretrainedConfig):
    """What the modelling file builds; the defaults are the base size of Khorrami et al. 2023.

    Args:
        conv_layers: (channels, kernel, stride) of each layer of the convolutional extractor.
        conv_bias: its convolutions have biases.
        extractor_mode: ``default``, one group norm after the first convolution, or ``layer_norm``, in every
            layer.
        hidden_size: dims of the speech transformer.
        num_hidden_layers: its layers.
        num_attention_heads: its attention heads.
        intermediate_size: dims of its feed-forward networks.
        hidden_act: their activation, by fairseq's name; ``gelu`` is the exact one, ``gelu_accurate`` the one
            with tanh.
        layer_norm_first: norms before the sub-layers instead of after the residual.
        conv_pos: kernel of the positional convolution, frames.
        conv_pos_groups: its groups.
        pos_conv_depth: number of positional convolutions, with norms between them if more than one.
        crop_seq_to_multiple: frames are cut to a multiple of this.
        use_cls: a learned vector precedes the frames.
        vgs_layer: the layer that the speech head reads, from 1.
        padding: ``exact``, padding has no influence; ``fairseq``, it counts in the extractor's group norm;
            ``fast_vgs``, it also enters later layers, as in the code of FaST-VGS.
        hidden_dropout: dropout in training.
        attention_dropout: dropout of attention weights in training.
        activation_dropout: dropout within the feed-forward networks in training.
        embed_dim: dims of the embeddings of speech and images.
        speech_head: ``resdavenet`` or ``attention``.
        speech_head_settings: settings of the speech head.
        image_encoder: ``regions``, ``patches`` or ``hugging_face``.
        image_encoder_settings: settings of the image encoder.
        region_network: ``precision`` of the network that computes regions; None if it is not included.
        similarity: ``dot`` or ``cosine``.
        normalize: speech is normalised to zero mean and unit variance by the feature extractor.
        max_seconds: longer captions were cut to this where the model was evaluated.
        initializer_range: standard deviation of weights that are not loaded.
    """

    model_type = "fairseq_vgs"

    def __init__(
        self,
        conv_layers: Sequence[Sequence[int]] = WAV2VEC2_LAYERS,
        conv_bias: bool = False,
        extractor_mode: str = "default",
        hidden_size: int = 768,
        num_hidden_layers: int = 12,
        num_attention_heads: int = 12,
        intermediate_size: int = 3072,
        hidden_act: str = "gelu",
        layer_norm_first: bool = False,
        conv_pos: int = 128,
        conv_pos_groups: int = 16,
        pos_conv_depth: int = 1,
        crop_seq_to_multiple: int = 1,
        use_cls: bool = True,
        vgs_layer: int = 8,
        padding: str = "exact",
        hidden_dropout: float = 0.1,
        attention_dropout: float = 0.1,
        activation_dropout: float = 0.0,
        embed_dim: int = 768,
        speech_head: str = "resdavenet",
        speech_head_settings: Mapping[str, Any] | None = None,
        image_encoder: str = "regions",
        image_encoder_settings: Mapping[str, Any] | None = None,
        region_network: Mapping[str, Any] | None = None,
        similarity: str = "dot",
        normalize: bool = True,
        max_seconds: float = 10.0,
        initializer_range: float = 0.02,
        **others: Any,
    ) -> None:
        self.conv_layers = [list(layer) for layer in conv_layers]
        self.conv_bias = conv_bias
        self.extractor_mode = extractor_mode
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.intermediate_size = intermediate_size
        self.hidden_act = hidden_act
        self.layer_norm_first = layer_norm_first
        self.conv_pos = conv_pos
        self.conv_pos_groups = conv_pos_groups
        self.pos_conv_depth = pos_conv_depth
        self.crop_seq_to_multiple = crop_seq_to_multiple
        self.use_cls = use_cls
        self.vgs_layer = vgs_layer
        self.padding = padding
        self.hidden_dropout = hidden_dropout
        self.attention_dropout = attention_dropout
        self.activation_dropout = activation_dropout
        self.embed_dim = embed_dim
        self.speech_head = speech_head
        self.speech_head_settings = dict(speech_head_settings or {})
        self.image_encoder = image_encoder
        self.image_encoder_settings = dict(image_encoder_settings or {})
        self.region_network = None if region_network is None else dict(region_network)
        self.similarity = similarity
        self.normalize = normalize
        self.max_seconds = max_seconds
        self.initializer_range = initializer_range
        super().__init__(**others)
