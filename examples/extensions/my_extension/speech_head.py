"""A speech head: the mean of the frames, and a linear layer."""

from torch import Tensor, nn

from fairseq_vgs.modules import SPEECH_HEADS, SpeechHeadSettings


@SPEECH_HEADS.register("mean")
class MeanHead(nn.Module):
    """Embed frames `[P, T, D]` by their mean over what is not padding: `[P, E]`."""

    needs_cls = False
    Settings = SpeechHeadSettings

    def __init__(self, settings: SpeechHeadSettings) -> None:
        super().__init__()
        self.project = nn.Linear(settings.input_dim, settings.output_dim)

    def forward(
        self,
        frames: Tensor,
        *,
        cls: Tensor | None = None,  # noqa: ARG002 - not used
        padding_mask: Tensor | None = None,
    ) -> Tensor:
        """Embed utterances; see the class for shapes."""
        if padding_mask is None:
            return self.project(frames.mean(dim=1))
        valid = (~padding_mask).unsqueeze(-1)
        frames = frames.masked_fill(~valid, 0.0)
        return self.project(frames.sum(dim=1) / valid.sum(dim=1))
