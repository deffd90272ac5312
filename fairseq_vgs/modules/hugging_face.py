"""Image encoder over raw pictures: a vision backbone from a local Hugging Face folder.

Any backbone that ``transformers.AutoModel`` builds and that reads ``pixel_values`` (ViT, DINOv2, CLIP,
SigLIP, ResNet, ConvNeXt, ...). Nothing is downloaded, none of the folder's code is run.

Legend: `P` pictures of `H` = `W` pixels, `L` tokens, `C` dimensions of the backbone, `E` of the embedding.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from fairseq_vgs.files.faults import FaultError, fault
from fairseq_vgs.files.packages import download_step, optional_package
from fairseq_vgs.files.texts import read_object
from fairseq_vgs.modules.patches import sincos_positions
from fairseq_vgs.modules.registry import IMAGE_ENCODERS
from fairseq_vgs.modules.transformer import (
    LAYER_NORM_EPS,
    ImageTransformer,
    ImageTransformerSettings,
    init_like_bert,
    two_layer_mlp,
)
from fairseq_vgs.settings import from_config

CONFIG_NAME = "config.json"
FIRST_TRANSFORMERS = 5  # earlier versions do not report weights of other shapes, which then stay random
DOWNLOAD = "download the folder again"
# The second is saved by a processor of several modalities, with the same keys in a part of that name.
PREPROCESSOR_NAMES = (("preprocessor_config.json", None), ("processor_config.json", "image_processor"))
# Keys of config.json, at any depth, that name code, kernels or other files, or that a backbone does not need;
# exported models, which stand alone, have the same.
LEFT_OUT = (
    "_attn_implementation",
    "_attn_implementation_internal",
    "_name_or_path",
    "architectures",
    "attn_implementation",
    "auto_map",
    "dtype",
    "id2label",
    "label2id",
    "quantization_config",
    "torch_dtype",
    "transformers_version",
)


class BackboneError(FaultError):
    """A folder or a stored configuration describes no usable backbone."""


def _refusal(place: object, expected: str, got: object, step: str = DOWNLOAD, *, code: str) -> BackboneError:
    return BackboneError(fault(str(place), expected, got, step, code=code))


def read_backbone(folder: Path) -> str:
    """Return JSON text from which `Backbone` builds a folder's backbone without the folder.

    It holds the model's configuration, the pictures' size in pixels, and scale and offset of each colour.

    Raises:
        BackboneError: a file is missing or unusable, or ``transformers`` is not installed.
    """
    if not folder.is_dir():
        expected = f"must be a local folder with {CONFIG_NAME}"
        raise _refusal(folder, expected, "no folder", download_step(folder), code="backbone.missing")
    found = read_object(folder / CONFIG_NAME, DOWNLOAD, error=BackboneError)
    settings = _plain(found.get("vision_config", found))
    # In folders of picture-text models, model_type names the whole model.
    settings.setdefault("model_type", f"{found.get('model_type')}_vision_model")
    config = _auto_config(settings, str(folder / CONFIG_NAME))
    preprocessing, path = _preprocessing(folder)
    scale, offset = _normalization(preprocessing, path)
    size = _size(preprocessing) or _side(getattr(config, "image_size", None))
    if size is None:
        expected = "size or crop_size must be that of a square"
        got = preprocessing.get("size")
        raise _refusal(path, expected, got, "choose another model", code="backbone.value")
    known = {"model": _plain(config.to_dict()), "size": size, "scale": scale, "offset": offset}
    return json.dumps(known, sort_keys=True)


def backbone_size(backbone: str) -> int:
    """Return the height and width in pixels that a backbone (see `read_backbone`) was made for."""
    return int(json.loads(backbone)["size"])


class Backbone(nn.Module):
    """A vision backbone (of `read_backbone`) with its normalisation; random weights until `load_pretrained`.

    A pooler with weights after the CLS (ViT's linear layer and tanh) is left out, since many folders lack its
    weights: the pooled output is then the CLS.

    Shape:
        pictures ``[P, 3, H, W]``, black -1 and white +1. Results: pooled ``[P, C]``, and tokens ``[P, L, C]``
        or, from a convolutional backbone, a map ``[P, C, h, w]``.
    """

    scale: Tensor
    offset: Tensor

    def __init__(self, backbone: str) -> None:
        super().__init__()
        try:
            known = json.loads(backbone)
            settings, scale, offset = known["model"], known["scale"], known["offset"]
            self.size = int(known["size"])
        except (ValueError, KeyError, TypeError) as error:
            expected, step = "expected the text that read_backbone returns", "read the folder again"
            raise _refusal("backbone", expected, error, step, code="backbone.value") from error
        self.config = _auto_config(settings, "backbone")
        try:
            self.model = _transformers().AutoModel.from_config(self.config, trust_remote_code=False)
        except Exception as error:
            raise _unknown("backbone", self.config.model_type, error) from error
        pooler = getattr(self.model, "pooler", None)
        if pooler is not None and next(pooler.parameters(), None) is not None:
            self.model.pooler = None
        for name, values in (("scale", scale), ("offset", offset)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Run the backbone; see the class for shapes."""
        output = self.model(pixel_values=pictures * self.scale + self.offset)
        tokens = output.last_hidden_state
        pooled = getattr(output, "pooler_output", None)
        if pooled is None:
            pooled = tokens[:, 0] if tokens.dim() == 3 else tokens.mean(dim=(2, 3))
        return pooled.flatten(1), tokens

    def load_pretrained(self, folder: Path) -> None:
        """Load the weights of a folder: safetensors, or a pickle that holds tensors only.

        Raises:
            BackboneError: weights are missing or have other shapes, or the files cannot be read.
        """
        transformers = _transformers()
        try:
            with quiet():  # no messages about the unused text half of a model
                found, report = transformers.AutoModel.from_pretrained(
                    str(folder.resolve()),
                    config=self.config,
                    local_files_only=True,
                    trust_remote_code=False,
                    weights_only=True,
                    ignore_mismatched_sizes=True,  # reported below, as missing weights are
                    output_loading_info=True,
                )
        except Exception as error:
            expected = "weights must be readable tensors"
            raise _refusal(folder, expected, _first_line(error), code="backbone.unreadable") from error
        own = self.model.state_dict()
        reshaped = {name[0] for name in report["mismatched_keys"]}
        for what, names in (("missing", report["missing_keys"]), ("of other shapes", reshaped)):
            if bad := sorted(own.keys() & {str(name) for name in names}):
                got = f"{len(bad)} {what} ({', '.join(bad[:5])}{', ...' if len(bad) > 5 else ''})"
                raise _refusal(folder, f"weights must fit {CONFIG_NAME}", got, code="backbone.mismatch")
        weights = found.state_dict()
        self.model.load_state_dict({name: weights[name].float() for name in own}, strict=True)


@IMAGE_ENCODERS.register("hugging_face")
class HuggingFaceEncoder(ImageTransformer):
    """Embeds a picture with a pre-trained backbone, frozen or fine-tuned.

    ``pooled``: two-layer MLP on the backbone's pooled output. ``tokens``: the backbone's tokens (or the cells
    of its map, with 2-D sine-cosine positions) are projected and go through the transformer, CLS and MLP of
    the other image encoders. A frozen backbone is always in evaluation mode, without graph and gradients.

    Shape:
        image["pictures"] ``[P, 3, H, W]``, black -1 and white +1. Result ``[P, E]``.
    """

    reads = "pictures"

    @dataclass(frozen=True)
    class Settings(ImageTransformerSettings):
        """Settings of the transformer and of the backbone (of `read_backbone`); pictures' sides in pixels."""

        image_size: int = from_config("image_size", default=224)
        backbone: str = from_config("image_backbone_config", default="")
        backbone_frozen: bool = from_config("image_backbone_frozen", default=True)
        backbone_output: Literal["pooled", "tokens"] = from_config("image_backbone_output", default="pooled")

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        backbone = Backbone(settings.backbone)
        self.frozen = settings.backbone_frozen
        self.reads_tokens = settings.backbone_output == "tokens"
        dim = self._freeze(backbone, settings.image_size)
        self.input_norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        if self.reads_tokens:
            self.token_projection = nn.Linear(dim, settings.embed_dim)
            self.add_transformer(settings)
        else:
            self.projection = two_layer_mlp(dim, 2 * dim, settings.output_dim)
            init_like_bert(self, width=dim)
        self.backbone = backbone  # last: the lines above draw the weights of everything added before

    def forward(self, image: dict[str, Tensor]) -> Tensor:
        """Embed pictures; see the class for shapes."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            found = self._output(self.backbone, image["pictures"])
        if not self.reads_tokens:
            embedding: Tensor = self.projection(self.input_norm(found))
            return embedding
        positions: Tensor | float = 0.0
        if found.dim() == 4:
            dim = self.token_projection.out_features
            positions = sincos_positions(*found.shape[2:], dim=dim, device=found.device)
            found = found.flatten(2).transpose(1, 2)
        tokens = self.token_projection(self.input_norm(found)) + positions
        return self.embed_tokens(tokens, padding_mask=None)

    def train(self, mode: bool = True) -> Self:
        """Switch modes; a frozen backbone stays in evaluation mode (batch norm and dropout, too)."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def load_pretrained(self, folder: Path) -> None:
        """Load the backbone's weights from its folder; see `Backbone.load_pretrained`."""
        self.backbone.load_pretrained(folder)

    def _output(self, backbone: Backbone, pictures: Tensor) -> Tensor:
        return backbone(pictures)[1 if self.reads_tokens else 0]

    def _freeze(self, backbone: Backbone, size: int) -> int:
        """Switch off gradients of weights that the output does not use; return the output's dimensions."""
        weights = list(backbone.eval().parameters())
        try:
            with torch.set_grad_enabled(not self.frozen):
                output = self._output(backbone, backbone.scale.new_zeros(1, 3, size, size))
        except Exception as error:
            expected = f"expected a size that the backbone reads (it was made for {backbone.size})"
            step = f"set it to that size ({_first_line(error)})"
            raise _refusal("model.image_size", expected, size, step, code="setting.value") from error
        if self.frozen:
            backbone.requires_grad_(False)
        else:
            gradients = torch.autograd.grad(output.sum(), weights, allow_unused=True)
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.requires_grad_(gradient is not None)
        return output.size(2) if output.dim() == 3 else output.size(1)


def _transformers() -> Any:
    transformers = optional_package("transformers", "backbones", place="hugging_face", error=BackboneError)
    if int(transformers.__version__.split(".")[0]) < FIRST_TRANSFORMERS:
        needs = f"needs the package transformers, {FIRST_TRANSFORMERS}.0 or later"
        step = "install it with pip install 'fairseq_vgs[backbones]'"
        raise _refusal("hugging_face", needs, transformers.__version__, step, code="package.version")
    return transformers


@contextmanager
def quiet() -> Iterator[None]:
    """Keep messages and progress bars of ``transformers`` back within the block."""
    messages = _transformers().utils.logging
    level, bars = messages.get_verbosity(), messages.is_progress_bar_enabled()
    messages.set_verbosity_error()
    messages.disable_progress_bar()
    try:
        yield
    finally:
        messages.set_verbosity(level)
        if bars:
            messages.enable_progress_bar()


def _auto_config(settings: Mapping[str, Any], place: str) -> Any:
    transformers = _transformers()
    settings = _plain(settings)
    model_type = settings.pop("model_type", None)
    try:
        return transformers.AutoConfig.for_model(model_type, **settings)
    except Exception as error:
        raise _unknown(place, model_type, error) from error


def _unknown(place: str, model_type: object, error: Exception) -> BackboneError:
    expected = f"must describe a model that transformers {_transformers().__version__} builds"
    step = f"choose another model ({_first_line(error)})"
    return _refusal(place, expected, f"model_type {model_type}", step, code="backbone.unknown")


def _plain(settings: Any) -> dict[str, Any]:
    if not isinstance(settings, Mapping):
        raise _refusal("backbone", "settings must be a JSON object", settings, code="backbone.value")
    plain: dict[str, Any] = _without_left_out(settings)
    return plain


def _without_left_out(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _without_left_out(part) for key, part in value.items() if key not in LEFT_OUT}
    return [_without_left_out(part) for part in value] if isinstance(value, list | tuple) else value


def _preprocessing(folder: Path) -> tuple[dict[str, Any], Path]:
    for name, part in PREPROCESSOR_NAMES:
        path = folder / name
        found = read_object(path, DOWNLOAD, error=BackboneError) if path.is_file() else {}
        found = found if part is None else found.get(part, {})
        if isinstance(found, dict) and ("image_mean" in found or found.get("do_normalize") is False):
            return found, path
    expected = f"must hold {PREPROCESSOR_NAMES[0][0]} with image_mean and image_std"
    raise _refusal(folder, expected, "none", "download it with the model", code="backbone.missing")


def _normalization(preprocessing: Mapping[str, Any], path: Path) -> tuple[list[float], list[float]]:
    """Return scale and offset of each colour for pictures whose black is -1 and white +1."""
    rescale = preprocessing.get("rescale_factor", 1 / 255) if preprocessing.get("do_rescale", True) else 1.0
    mean, std = preprocessing.get("image_mean"), preprocessing.get("image_std")
    if not preprocessing.get("do_normalize", True):
        mean, std = [0.0] * 3, [1.0] * 3
    numbers = [*mean, *std, rescale] if isinstance(mean, list) and isinstance(std, list) else []
    usable = len(numbers) == 7 and all(isinstance(x, (int, float)) and math.isfinite(x) for x in numbers)
    if not usable or min(numbers[3:]) <= 0:
        expected = "image_mean and image_std must be three numbers each, rescale_factor one"
        raise _refusal(path, expected, (mean, std, rescale), code="backbone.value")
    white = 255 * rescale
    scale = [white / 2 / deviation for deviation in numbers[3:6]]
    return scale, [(white / 2 - numbers[i]) / numbers[3 + i] for i in range(3)]


def _size(preprocessing: Mapping[str, Any]) -> int | None:
    crop = preprocessing.get("crop_size") if preprocessing.get("do_center_crop") else None
    return _side(crop) or _side(preprocessing.get("size"))


def _side(size: Any) -> int | None:
    if isinstance(size, Mapping):
        sides = {size[key] for key in ("height", "width", "shortest_edge") if size.get(key) is not None}
        size = sides.pop() if len(sides) == 1 else None
    return size if isinstance(size, int) and size > 0 else None


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
