"""Captions as text instead of speech: an upper bound, the scores of a model that understands every word.

Shapes: P captions, L units, D dims of the transformer, E embedding dims.
"""

import copy
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from fairseq_vgs.models.settings import VgsWav2Vec2Config
from fairseq_vgs.models.vgs_wav2vec2 import VgsWav2Vec2Model
from fairseq_vgs.settings import bad_setting

_OF_SPEECH = (
    "feature_extractor",
    "post_extract_proj",
    "layer_norm",
    "mask_emb",
    "quantizer",
    "project_q",
    "target_glu",
    "final_proj",
    "project_inp",
    "input_quantizer",
)


class VgsTextModel(VgsWav2Vec2Model):
    """The visually grounded branch over text units (``model.caption_encoder: text``).

    Learned unit embeddings replace the extractor's frames; positional convolution, CLS vector, layers
    1..vgs_layer, speech head, image encoder and loss are the same as for speech. There is no SSL branch.
    """

    has_ssl = False

    def __init__(self, cfg: VgsWav2Vec2Config) -> None:
        if not cfg.text_vocabulary:
            expected = "the number of text units with model.caption_encoder=text"
            step = "set it, or build the model through its task, which knows it"
            raise bad_setting(
                "model.text_vocabulary", expected, cfg.text_vocabulary, step, code="setting.missing"
            )
        n_units = cfg.text_vocabulary
        cfg = copy.deepcopy(cfg)
        cfg.encoder_layers = cfg.vgs_layer  # the layers above serve SSL only
        super().__init__(cfg)
        for name in _OF_SPEECH:
            setattr(self, name, None)
        self.unit_embedding = nn.Embedding(n_units, cfg.encoder_embed_dim)

    def forward(  # type: ignore[override]  # refuses speech-only arguments
        self,
        source: Tensor,
        padding_mask: Tensor | None = None,
        *,
        image: dict[str, Tensor] | None = None,
        compute_ssl: bool = False,
        compute_vgs: bool = True,
        learned: tuple[str, ...] = (),
        **of_speech: Any,
    ) -> dict[str, Any]:
        """Embed captions and pictures.

        ``source`` are units int64[P, L], ``padding_mask`` bool[P, L] (true = padding), ``image`` what the
        image encoder reads. ``compute_ssl`` must be off, ``compute_vgs`` on. The result has
        ``speech_embedding`` f[P, E], ``image_embedding`` f[P, E], and the ``learned`` scalars.

        Raises:
            FaultError: ``setting.value``: text has no masks, layers or SSL loss, and these are asked for.
        """
        asked = [name for name, value in of_speech.items() if value is not None and value is not False]
        if image is None or compute_ssl or not compute_vgs or asked:
            expected = f"speech for the SSL loss, masks and layers{f' (asked for {asked})' if asked else ''}"
            step = "train with scenario=text, which has the VGS loss only"
            raise bad_setting("model.caption_encoder", expected, "text", step)
        with self._autocast(source.device):
            output = self._vgs_branch(self._run_layers(source, padding_mask), image)
            output.update(self._learned_scalars(learned))
        self._record("vgs")
        return output

    def encode_speech(self, source: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """Embed captions: int64[P, L], padding bool[P, L] (true = padding) -> f[P, E]."""
        with self._autocast(source.device):
            padding_mask = self._run_layers(source, padding_mask)
            frames, cls = self.encoder.take_shared()
            return self.speech_head(frames, cls=cls, padding_mask=padding_mask).float()

    def ssl_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that nothing trains."""
        if self.cfg.layer_norm_first:
            yield from self.encoder.layer_norm.parameters()

    def _run_layers(self, units: Tensor, padding_mask: Tensor | None) -> Tensor | None:
        """Run all layers (the encoder keeps the result); return the padding mask, None without padding."""
        padding_mask = self._if_any(padding_mask)
        x = self.dropout_input(self.unit_embedding(units))
        self.encoder(x, padding_mask=padding_mask, layer=self.cfg.vgs_layer - 1)
        return padding_mask
