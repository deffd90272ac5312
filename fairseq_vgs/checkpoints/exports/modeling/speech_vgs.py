"""The speech encoder: wav2vec 2.0's extractor and transformer, with a learned CLS vector if there is one.

Weights have fairseq's names, but the weight norm of the positional convolution is folded into its weight.
Layers are numbered as there: 0 is what enters the first layer, 1 the first layer's output.

Legend: `B` utterances, `S` samples, `T` frames, `C` channels of the extractor, `D` dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .configuration_vgs import VgsConfig
from .layers_vgs import attend


def exact_gelu(x: Tensor) -> Tensor:
    """GELU with the error function, in float32."""
    return F.gelu(x.float()).type_as(x)


def tanh_gelu(x: Tensor) -> Tensor:
    """GELU's approximation with tanh."""
    return F.gelu(x, approximate="tanh")


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": exact_gelu,
    "gelu_accurate": tanh_gelu,
    "gelu_fast": tanh_gelu,
    "relu": F.relu,
    "tanh": torch.tanh,
    "linear": lambda x: x,
}


@dataclass(frozen=True)
class EncodedSpeech:
    """What the encoder computes of a batch.

    Attributes:
        states: `[B, T, D]` for each layer, from the input of the first one; without CLS.
        cls_states: `[B, D]` for each, or empty.
        padding_mask: bool `[B, T]` (True = padding), or None without padding.
    """

    states: tuple[Tensor, ...]
    cls_states: tuple[Tensor, ...]
    padding_mask: Tensor | None


class TimeGroupNorm(nn.GroupNorm):
    """Group norm over the first `n_valid` frames of each row, in float32; other frames become zero.

    Shape:
        x `[B, C, T]`, n_valid int64 `[B]` or None for all frames; result as x.
    """

    def forward(self, x: Tensor, n_valid: Tensor | None = None) -> Tensor:  # noqa: D102 - see the class
        if n_valid is None:
            return self._normalize(x)
        if torch.compiler.is_compiling():  # a graph has no loop over rows
            return self._normalize_masked(x, n_valid)
        rows = zip(x, n_valid.tolist(), strict=True)
        normed = [self._normalize(row[None, :, :n])[0] for row, n in rows]
        return torch.stack([F.pad(row, (0, x.size(2) - row.size(1))) for row in normed])

    def _normalize(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.float(), self.bias.float()
        return F.group_norm(x.float(), self.num_groups, weight, bias, self.eps).type_as(x)

    def _normalize_masked(self, x: Tensor, n_valid: Tensor) -> Tensor:
        """Do the same without a loop: each channel is a group."""
        padding, count = _after(n_valid, x.size(2)).unsqueeze(1), n_valid[:, None, None]
        valid = x.float().masked_fill(padding, 0.0)
        centred = (valid - valid.sum(dim=2, keepdim=True) / count).masked_fill(padding, 0.0)
        variance = centred.square().sum(dim=2, keepdim=True) / count
        scale = self.weight.float().unsqueeze(1) * torch.rsqrt(variance + self.eps)
        return (centred * scale + self.bias.float().unsqueeze(1)).masked_fill(padding, 0.0).type_as(x)


class ChannelNorm(nn.Sequential):
    """Layer norm over channels: `[B, C, T]` to the same."""

    def __init__(self, n_channels: int) -> None:
        super().__init__(nn.Identity(), nn.LayerNorm(n_channels))

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102 - see the class
        normed: Tensor = self[1](x.transpose(1, 2)).transpose(1, 2)
        return normed


class Extractor(nn.Module):
    """The convolutional extractor: waveforms `[B, S]` to features `[B, C, T]`."""

    def __init__(self, config: VgsConfig) -> None:
        super().__init__()
        self.specs = tuple((channels, kernel, stride) for channels, kernel, stride in config.conv_layers)
        self.conv_layers = nn.ModuleList()
        width = 1
        for number, (channels, kernel, stride) in enumerate(self.specs):
            parts: list[nn.Module] = [
                nn.Conv1d(width, channels, kernel, stride=stride, bias=config.conv_bias),
                nn.Identity(),
            ]
            if config.extractor_mode == "layer_norm":
                parts.append(ChannelNorm(channels))
            elif number == 0:
                parts.append(TimeGroupNorm(channels, channels))
            self.conv_layers.append(nn.Sequential(*parts))
            width = channels

    def forward(self, waveforms: Tensor, n_samples: Tensor | None = None) -> Tensor:
        """Compute features; with `n_samples`, int64 `[B]`, padding has no influence on them."""
        x = waveforms.unsqueeze(1)
        for number, block in enumerate(self.conv_layers, start=1):
            for part in block:  # type: ignore[attr-defined]
                if isinstance(part, TimeGroupNorm):
                    x = part(x, None if n_samples is None else self.n_frames(n_samples, number))
                else:
                    x = part(x)
            x = F.gelu(x)
        if n_samples is not None:
            x = x.masked_fill(_after(self.n_frames(n_samples), x.size(2)).unsqueeze(1), 0.0)
        return x

    def n_frames(self, n_samples: Tensor, n_layers: int | None = None) -> Tensor:
        """Count the frames that the first layers, or all, make of lengths in samples; at least 1."""
        for _, kernel, stride in self.specs[:n_layers]:
            n_samples = (n_samples - kernel) // stride + 1
        return n_samples.clamp(min=1)

    @property
    def hop(self) -> int:
        """Samples between two frames."""
        return math.prod(stride for _, _, stride in self.specs)


class PositionalConvolution(nn.Sequential):
    """A grouped convolution over time, then GELU: `[B, D, T]` to the same.

    An even kernel makes a frame too many, of which the last is dropped. With several, each is normalised.
    """

    def __init__(self, dim: int, kernel: int, groups: int, *, is_normed: bool) -> None:
        super().__init__(nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=groups))
        self.is_even, self.is_normed = kernel % 2 == 0, is_normed

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102 - see the class
        x = self[0](x)
        x = x[:, :, :-1] if self.is_even else x
        if self.is_normed:
            x = F.layer_norm(x.transpose(1, 2), (x.size(1),)).transpose(1, 2)
        return F.gelu(x)


class SelfAttention(nn.Module):
    """Multi-head self-attention: x `[B, L, D]`, padding_mask bool `[B, L]` or None, result as x."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.k_proj = nn.Linear(dim, dim)
        self.v_proj = nn.Linear(dim, dim)
        self.q_proj = nn.Linear(dim, dim)
        self.out_proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, padding_mask: Tensor | None) -> Tensor:
        """Attend; see the class for shapes."""
        dropout = self.dropout if self.training else 0.0
        query, key, value = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        output: Tensor = self.out_proj(
            attend(query, key, value, heads=self.heads, padding_mask=padding_mask, dropout=dropout)
        )
        return output


class SpeechLayer(nn.Module):
    """One transformer layer: x `[B, L, D]`, padding_mask bool `[B, L]` or None, result as x."""

    def __init__(self, config: VgsConfig) -> None:
        super().__init__()
        dim, ffn_dim = config.hidden_size, config.intermediate_size
        self.self_attn = SelfAttention(dim, config.num_attention_heads, config.attention_dropout)
        self.self_attn_layer_norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, ffn_dim)
        self.fc2 = nn.Linear(ffn_dim, dim)
        self.final_layer_norm = nn.LayerNorm(dim)
        self.activation = ACTIVATIONS[config.hidden_act]
        self.norm_first = config.layer_norm_first
        self.dropout = nn.Dropout(config.hidden_dropout)
        self.activation_dropout = nn.Dropout(config.activation_dropout)

    def forward(self, x: Tensor, padding_mask: Tensor | None) -> Tensor:
        """Apply the layer; see the class for shapes."""
        if self.norm_first:
            x = x + self.dropout(self.self_attn(self.self_attn_layer_norm(x), padding_mask))
            return x + self.dropout(self._feed_forward(self.final_layer_norm(x)))
        x = self.self_attn_layer_norm(x + self.dropout(self.self_attn(x, padding_mask)))
        normed: Tensor = self.final_layer_norm(x + self.dropout(self._feed_forward(x)))
        return normed

    def _feed_forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.fc2(self.activation_dropout(self.activation(self.fc1(x))))
        return output


class SpeechTransformer(nn.Module):
    """Positional convolution and layers, with the CLS vector in front if there is one."""

    def __init__(self, config: VgsConfig) -> None:
        super().__init__()
        dim, depth = config.hidden_size, config.pos_conv_depth
        kernel = config.conv_pos if depth == 1 else max(3, config.conv_pos // depth)
        blocks = [
            PositionalConvolution(dim, kernel, config.conv_pos_groups, is_normed=depth > 1)
            for _ in range(depth)
        ]
        self.pos_conv = blocks[0] if depth == 1 else nn.Sequential(*blocks)
        self.layers = nn.ModuleList(SpeechLayer(config) for _ in range(config.num_hidden_layers))
        self.layer_norm = nn.LayerNorm(dim)
        self.cls_embedding = nn.Parameter(torch.zeros(dim)) if config.use_cls else None
        self.norm_first = config.layer_norm_first
        self.zero_padding = config.padding != "fast_vgs"
        self.dropout = nn.Dropout(config.hidden_dropout)

    def forward(self, frames: Tensor, padding_mask: Tensor | None, n_layers: int) -> EncodedSpeech:
        """Run the first layers on frames `[B, T, D]`, padding_mask bool `[B, T]` (True = padding)."""
        x, mask = frames, padding_mask
        if self.cls_embedding is not None:
            x = torch.cat([self.cls_embedding.to(x.dtype).expand(x.size(0), 1, -1), x], dim=1)
            mask = None if mask is None else F.pad(mask, (1, 0), value=False)
        if mask is not None and self.zero_padding:
            x = x.masked_fill(mask.unsqueeze(2), 0.0)
        x = x + self.pos_conv(x.transpose(1, 2)).transpose(1, 2)
        x = self.dropout(x if self.norm_first else self.layer_norm(x))
        states = [x]
        for layer in self.layers[:n_layers]:
            states.append(x := layer(x, mask))
        if self.cls_embedding is None:
            return EncodedSpeech(tuple(states), (), padding_mask)
        frames_of, cls_of = tuple(x[:, 1:] for x in states), tuple(x[:, 0] for x in states)
        return EncodedSpeech(frames_of, cls_of, padding_mask)


def lengths_of(attention_mask: Tensor | None) -> Tensor | None:
    """Return the lengths in samples, int64 `[B]`; None without padding.

    `attention_mask` `[B, S]` is not zero where a sample is speech, which comes first.
    """
    if attention_mask is None:
        return None
    is_speech = attention_mask != 0
    # a graph cannot depend on values: it treats every batch as a padded one, with the same result
    if not torch.compiler.is_compiling() and bool(is_speech.all()):
        return None
    return is_speech.sum(dim=1)


def padding_of(
    n_samples: Tensor, extractor: Extractor, *, longest: int, n_frames: int, padding: str
) -> Tensor:
    """Return the padding of frames, bool `[B, T]`, for lengths in samples in a batch of `longest` samples."""
    if padding != "fast_vgs":
        return _after(extractor.n_frames(n_samples), n_frames)
    # Their code cuts the samples into as many equal pieces as there are frames; a frame is padding if its
    # whole piece is.
    piece = longest // n_frames
    return _after(((n_samples + piece - 1) // piece).clamp(max=n_frames), n_frames)


def _after(lengths: Tensor, n_frames: int) -> Tensor:
    """Return bool `[B, T]`, true from each length on."""
    return torch.arange(n_frames, device=lengths.device) >= lengths.unsqueeze(1)
