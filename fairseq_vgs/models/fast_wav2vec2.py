"""fairseq's wav2vec 2.0 with rearranged arithmetic: same weights and draws, same result up to rounding.

Shapes: B utterances, S samples, T frames, M masked frames each, D dims.
"""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from fairseq.models.wav2vec.wav2vec2 import ConvFeatureExtractionModel, Wav2Vec2Config, Wav2Vec2Model
from fairseq.modules import GumbelVectorQuantizer
from torch import Tensor, nn

from fairseq_vgs.models.fast_layer import take_fast_layers
from fairseq_vgs.modules.conv_spec import ConvLayers, n_frames, parse_conv_layers
from fairseq_vgs.modules.convolution import joined_convolution, normalized_convolution, spectral_convolution
from fairseq_vgs.modules.masked_norm import ValidFramesGroupNorm
from fairseq_vgs.modules.masked_prediction import candidate_logits, draw_negatives


class FastWav2Vec2Model(Wav2Vec2Model):
    """wav2vec 2.0 whose forward pass in training does not make the host wait for a GPU, where ``fast``.

    With ``exact_padding``, padding has no influence on an utterance, nor on the penalty of the features; in
    fairseq it counts in the statistics of the extractor's group norm, and as features.

    Otherwise, with ``fast`` off, and in evaluation, everything is fairseq's own, bit for bit. With ``fast``,
    in training:

    - the extractor is a chain of matrix products, its group norm part of the first one;
    - the positional convolution goes through the Fourier transform;
    - negatives are numbers, drawn on the device, and all similarities of an utterance one matrix product;
    - the quantizer picks codes by a matrix product;
    - masks may be given as numbers of frames, and the padding of frames follows from lengths, on the device;
      ``encoder`` finds it in its ``frame_padding``.
    """

    def __init__(self, cfg: Wav2Vec2Config, *, fast: bool, exact_padding: bool = False) -> None:
        super().__init__(cfg)
        self.fast = fast
        self.exact_padding = exact_padding
        self._layers = parse_conv_layers(cfg.conv_feature_layers)

    def forward(
        self,
        source: Tensor,
        padding_mask: Tensor | None = None,
        mask: bool = True,
        features_only: bool = False,
        layer: int | None = None,
        mask_indices: Tensor | None = None,
        mask_channel_indices: Tensor | None = None,
        padding_count: int | None = None,
    ) -> dict[str, Any]:
        """Run fairseq's forward; ``mask_indices`` are its bool[B, T], or numbers of frames int64[B, M]."""
        rest = (mask_channel_indices, padding_count)
        where: Any = mask_indices
        if mask_indices is not None and mask_indices.dtype != torch.bool:
            where = self._frame_index(mask_indices, source)
        draws_masks = mask and mask_indices is None  # masks depend on the padding and are drawn on the host
        with self._known_padding(padding_mask) as frame_padding:
            if not (self.fast and self.training) or draws_masks or frame_padding is None:
                output = super().forward(source, padding_mask, mask, features_only, layer, where, *rest)
            else:
                self.encoder.frame_padding = frame_padding
                output = super().forward(source, None, mask, features_only, layer, where, *rest)
                output["padding_mask"] = frame_padding
        if self.exact_padding and padding_mask is not None and "features_pen" in output:
            # a mean over all frames (before the sequence is cropped), of which those of the padding are zero
            n_valid = n_frames((~padding_mask).sum(dim=1), self._layers).clamp(min=1).sum()
            n_all = len(source) * n_frames(source.size(1), self._layers)
            output["features_pen"] = output["features_pen"] * (n_all / n_valid)
        return output

    @contextlib.contextmanager
    def _known_padding(self, padding_mask: Tensor | None) -> Iterator[Tensor | None]:
        """Set the extractor's utterance lengths within the block; yield the padding of frames, bool[B, T]."""
        if padding_mask is None:
            yield None
            return
        if self.exact_padding:
            self.feature_extractor.n_samples = (~padding_mask).sum(dim=1)
        try:
            yield self._frame_padding(padding_mask)
        finally:
            self.encoder.frame_padding = None
            if self.exact_padding:
                self.feature_extractor.n_samples = None

    def take_fast_parts(self) -> None:
        """Replace parts of fairseq's model by faster ones; call it once the encoder is set.

        Only their class changes: weights, and the order in which they were drawn, stay the same.
        """
        self.feature_extractor.__class__ = Extractor
        for _, norm in self.feature_extractor.group_norms():
            norm.__class__ = ValidFramesGroupNorm
        if not self.fast:
            return
        if not (self.cfg.conv_bias and str(self.cfg.extractor_mode) == "default"):
            self.feature_extractor.__class__ = MatmulExtractor
        if self.quantizer is not None:
            self.quantizer.__class__ = MatmulQuantizer
        if isinstance(self.encoder.pos_conv[0], nn.Conv1d):
            self.encoder.pos_conv[0].__class__ = SpectralConvolution
        take_fast_layers(self.encoder.layers)

    def sample_negatives(
        self, y: Tensor, num: Any, padding_count: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw negatives for targets f[B, M, D], as numbers for `compute_preds`."""
        if not self._negatives_are_numbers or padding_count:
            return super().sample_negatives(y, num, padding_count)
        negatives = draw_negatives(y.size(0), y.size(1), self.n_negatives, y.device)
        return negatives, negatives

    def compute_preds(self, x: Tensor, y: Tensor, negatives: Tensor) -> Tensor:
        """Compute fairseq's logits in fp32, whatever precision the model runs in."""
        with torch.autocast(x.device.type, enabled=False):
            if negatives.is_floating_point():
                return super().compute_preds(x.float(), y.float(), negatives.float())
            return candidate_logits(x.float(), y.float(), negatives, temperature=self.logit_temp)

    @property
    def _negatives_are_numbers(self) -> bool:
        """Whether negatives are only other targets of the utterance, as in the paper's recipe."""
        other = self.cross_sample_negatives or self.codebook_negatives or self.negatives_from_everywhere
        return self.fast and self.training and self.n_negatives > 0 and self.target_glu is None and not other

    def _frame_index(self, numbers: Tensor, source: Tensor) -> Any:
        if self.negatives_from_everywhere:  # fairseq then counts the mask's frames
            none = source.new_zeros(len(source), self._n_frames(source.size(1)), dtype=torch.bool)
            return none.scatter(1, numbers, True)
        return torch.arange(len(numbers), device=numbers.device).unsqueeze(1), numbers

    def _frame_padding(self, padding_mask: Tensor) -> Tensor:
        """Turn bool[B, S] into bool[B, T], as fairseq does; an utterance has at least one frame."""
        lengths = n_frames((~padding_mask).sum(dim=1), self._layers).clamp(min=1)
        frames = torch.arange(self._n_frames(padding_mask.size(1)), device=padding_mask.device)
        return frames >= lengths.unsqueeze(1)

    def _n_frames(self, n_samples: int) -> int:
        frames = n_frames(n_samples, self._layers)
        return frames - frames % self.crop_seq_to_multiple


class Extractor(ConvFeatureExtractionModel):
    """fairseq's extractor, without padding if ``n_samples`` tells the lengths of utterances."""

    n_samples: Tensor | None = None
    """int64[B], or None without padding."""

    def forward(self, x: Tensor) -> Tensor:
        """Turn waveforms f[B, S] into features f[B, D, T], zero where a frame is padding."""
        if self.n_samples is None:
            return self._convolve(x)
        norms: list[tuple[ConvLayers, Any]] = list(self.group_norms())
        for layers, norm in norms:
            norm.n_valid = n_frames(self.n_samples, layers).clamp(min=1)
        try:
            x = self._convolve(x)
        finally:
            for _, norm in norms:
                norm.n_valid = None
        lengths = n_frames(self.n_samples, self._layers()).clamp(min=1)
        padding = torch.arange(x.size(2), device=x.device) >= lengths.unsqueeze(1)
        return x.masked_fill(padding.unsqueeze(1), 0.0)

    def group_norms(self) -> Iterator[tuple[ConvLayers, nn.GroupNorm]]:
        """Yield each group norm over time, with the layers up to it."""
        for number, block in enumerate(self.conv_layers, start=1):
            for part in block:
                if isinstance(part, nn.GroupNorm):
                    yield self._layers()[:number], part

    def _layers(self) -> ConvLayers:
        convolutions = [block[0] for block in self.conv_layers]
        return tuple((conv.out_channels, conv.kernel_size[0], conv.stride[0]) for conv in convolutions)

    def _convolve(self, x: Tensor) -> Tensor:
        return super().forward(x)


class MatmulExtractor(Extractor):
    """In training with frames in memory one after the other; no biases before a group norm."""

    def _convolve(self, x: Tensor) -> Tensor:
        if not self.training:
            return super()._convolve(x)
        layers = self._layers()
        if (length := n_frames(x.size(1), layers)) < 1:
            raise ValueError(f"waveforms: expected samples for at least one frame, got {x.size(1)}")
        n_first = n_frames(x.size(1), layers[:1])
        # Every stride then divides the number of its frames; what is added reaches no frame that is kept.
        x = F.pad(x, (0, -x.size(1) % math.prod(stride for _, _, stride in layers)))
        for number, block in enumerate(self.conv_layers):
            convolution, norm = block[0], block[2]
            stride, weight = convolution.stride[0], convolution.weight
            if isinstance(norm, ValidFramesGroupNorm):
                x = F.pad(x, (0, max(0, weight.size(2) - stride)))
                n_valid = (
                    x.new_full((len(x),), n_first, dtype=torch.long) if norm.n_valid is None else norm.n_valid
                )
                weights = (weight, norm.weight, norm.bias)
                x = normalized_convolution(x, *weights, stride=stride, eps=norm.eps, n_valid=n_valid)
            else:
                x = joined_convolution(x.unsqueeze(2) if number == 0 else x, weight, stride=stride)
                x = x if convolution.bias is None else x + convolution.bias
                if isinstance(norm, nn.Sequential):
                    x = norm[1](x)  # between two transpositions
            x = F.gelu(x)
        return x[:, :length].transpose(1, 2)


class SpectralConvolution(nn.Conv1d):
    """fairseq's positional convolution: stride 1, padded with half its width."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve f[B, D, T]."""
        if not self.training:
            return super().forward(x)
        return spectral_convolution(x, self.weight, self.bias, groups=self.groups)


class MatmulQuantizer(GumbelVectorQuantizer):
    """fairseq's product quantizer, but no code vector is multiplied by a zero."""

    def forward(self, x: Tensor, produce_targets: bool = False) -> dict[str, Any]:
        """Quantize frames f[B, M, D], as fairseq does."""
        if not self.training or produce_targets or self.combine_groups or not self.time_first:
            return super().forward(x, produce_targets)
        logits = self.weight_proj(x).view(-1, self.groups, self.num_vars)
        codes = logits.argmax(dim=2, keepdim=True)
        chosen = torch.zeros_like(logits).scatter_(2, codes, 1.0)
        choice = F.gumbel_softmax(logits.float(), tau=self.curr_temp, hard=True).type_as(logits)
        with torch.autocast(x.device.type, enabled=False):
            codebook = self.vars.view(self.groups, self.num_vars, -1)
            quantized = choice.to(codebook.dtype).transpose(0, 1) @ codebook
        return {
            "x": quantized.transpose(0, 1).reshape(*x.shape[:2], -1),
            "num_vars": self.num_vars * self.groups,
            "code_perplexity": _perplexity(chosen.float().mean(dim=0)),
            "prob_perplexity": _perplexity(logits.float().softmax(dim=2).mean(dim=0)),
            "temp": self.curr_temp,
        }


def _perplexity(shares: Tensor) -> Tensor:
    """Sum the perplexity of f[G, V] over groups."""
    return torch.exp(-torch.sum(shares * torch.log(shares + 1e-7), dim=-1)).sum()
